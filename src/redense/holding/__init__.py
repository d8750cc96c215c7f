"""Masks in force around an optimizer's steps: weights held at zero, states kept neutral, what moves them noticed."""
