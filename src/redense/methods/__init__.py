"""What DSD is compared with: techniques that change more than the schedule of a phase."""
