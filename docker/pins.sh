#!/usr/bin/env bash
# conda.yaml on standard input, pip's requirements on standard output; what only tests need is left out.
set -euo pipefail
sed -n '/# what .make lint/q; s/^      - \([A-Za-z].*==.*\)/\1/p'
