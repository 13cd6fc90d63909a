#!/bin/bash
# A workspace's folder in, the nightly route gone: embed, materialize, train, index, publish. Silent
# where all went well; else the stage that failed and its last lines, and exit code 1. All that was
# said is in nightly.log. A second run beside one that goes on is refused.
set -o nounset
cd "$1" || exit 1
exec 9> nightly.lock
flock --nonblock 9 || { echo "the run before is still going on in $1"; exit 1; }
: > nightly.log
for stage in embed materialize train index publish; do
    if ! "${SOMMELIER:-sommelier}" "$stage" >> nightly.log 2>&1; then
        echo "sommelier $stage failed in $1:"
        tail -n 30 nightly.log
        exit 1
    fi
done
