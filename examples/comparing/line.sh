#!/bin/sh
# A training in awk: a line through noisy points by stochastic gradient descent; "average" takes the mean of its weights.
# sh examples/comparing/line.sh ARM SEED STEPS prints {"error": ...}, the mean squared error on points without noise.
#
# redense compare --command baseline='sh examples/comparing/line.sh plain {seed} 200' \
#   --command longer='sh examples/comparing/line.sh plain {seed} 400' \
#   --command average='sh examples/comparing/line.sh average {seed} 400' --metric error
awk -v arm="$1" -v seed="$2" -v steps="$3" '
BEGIN {
  srand(seed + 1)
  for (step = 1; step <= steps; step++) {
    x = 2 * rand() - 1
    noise = rand() + rand() + rand() + rand() - 2
    gradient = w * x + b - (3 * x + 1 + noise)
    w -= 0.1 * gradient * x; b -= 0.1 * gradient
    if (step > steps / 2) { sum_w += w; sum_b += b; count++ }
  }
  if (arm == "average") { w = sum_w / count; b = sum_b / count }
  print "{\"error\": " (w - 3) ^ 2 / 3 + (b - 1) ^ 2 ", \"steps\": " steps "}"
}'
