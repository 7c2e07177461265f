#!/usr/bin/env bash
# Take down what start_slurm.sh brought up in $SLURM_LAB: its jobs first, then its daemons, by the ids written there; the
# folder too with PURGE=yes. Exits with 1 where something of it is left running.
set -uo pipefail
lab=${SLURM_LAB:-/tmp/sweep-slurm}
export SLURM_CONF=$lab/etc/slurm.conf
left=0

running() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] && ! grep -q '^State:.Z' "/proc/$1/status"; }
finish() { # NAME SECONDS
    local pid name=${1%%.*} tenths=$(($2 * 10))
    pid=$(cat "$lab/run/$1.pid" 2>/dev/null) || return
    running "$pid" "$name" && kill "$pid"
    while running "$pid" "$name" && ((tenths-- > 0)); do sleep 0.1; done
    if running "$pid" "$name"; then
        kill -KILL "$pid"
        sleep 0.5
        running "$pid" "$name" && left=1
    fi
    rm -f "$lab/run/$1.pid"
}

if timeout 5 scontrol ping >/dev/null 2>&1; then
    timeout 10 scancel --user="$(id -un)"
    for ((tenths = 150; tenths > 0; tenths--)); do
        [ -n "$(timeout 5 squeue -h)" ] || break
        sleep 0.1
    done
fi
for file in "$lab"/run/slurmd.*.pid; do finish "$(basename "$file" .pid)" 10; done
finish slurmctld 15
finish slurmdbd 10
finish mariadbd 20
finish munged 5
[ "${PURGE:-no}" != yes ] || ((left)) || [ ! -e "$lab/env.sh" ] || rm -rf "$lab"
((left)) && echo "slurm: something is left running, see $lab/run" >&2
exit "$left"
