#!/usr/bin/env bash
# A private Slurm cluster on this machine, for the tests: two nodes with accounting, preemption and GPUs that are none.
# Everything it has (configuration, key, sockets, database, logs) is in $SLURM_LAB; it listens on loopback alone.
#   tests/slurm/start_slurm.sh && . "${SLURM_LAB:-/tmp/sweep-slurm}/env.sh"      tests/slurm/stop_slurm.sh
# Debian and Ubuntu; root, to install the packages and because nobody else is asked for. Again: what died is started again.
# Exits with 0 where it is up, 2 where it can't be installed here, 4 where a daemon doesn't come up.
# Knobs: SLURM_LAB, PORT_BASE=16800, NODES=2, NODE_CPUS=4, NODE_MEM_MB=8000, ACCOUNTING=yes
# A second cluster needs another SLURM_LAB, and a PORT_BASE that is 200 away.
set -euo pipefail
lab=${SLURM_LAB:-/tmp/sweep-slurm}
base=${PORT_BASE:-$(cat "$lab/etc/port_base" 2>/dev/null || echo 16800)} # started again, it keeps its ports
nodes=${NODES:-2} cpus=${NODE_CPUS:-4} memory=${NODE_MEM_MB:-8000} accounting=${ACCOUNTING:-yes}
limit_s=60
export SLURM_CONF=$lab/etc/slurm.conf
socket=$lab/munge.socket host=$(hostname -s) user=$(id -un)

fail() { echo "slurm: $2" >&2; exit "$1"; }
running() { # a daemon of ours, by the id in its file and its name, and no zombie
    local pid; pid=$(cat "$lab/run/$1.pid" 2>/dev/null) || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${1%%.*}" ] && ! grep -q '^State:.Z' "/proc/$pid/status"
}
daemon() { # NAME PORT COMMAND...: started where it isn't running
    local name=$1 port=$2; shift 2
    running "$name" && return
    [ "$port" = 0 ] || ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || fail 4 "port $port ($name) is taken: set PORT_BASE"
    setsid nohup "$@" >>"$lab/log/$name.out" 2>&1 </dev/null &
    echo $! >"$lab/run/$name.pid"
}
until_true() { # WHAT COMMAND...
    local what=$1 deadline=$((SECONDS + limit_s)); shift
    until "$@" >"$lab/log/probe.out" 2>&1; do
        ((SECONDS < deadline)) || { tail -n 20 "$lab"/log/*.out "$lab"/log/*.log >&2; fail 4 "$what is not there after $limit_s s"; }
        sleep 0.2
    done
}
all_idle() { [ "$(sinfo -h -N -p main -o %t | grep -cE '^(idle|mix|alloc|comp)$')" = "$nodes" ]; }

needed=(slurmctld:slurmctld slurmd:slurmd srun:slurm-client munged:munge)
[ "$accounting" != yes ] || needed+=(slurmdbd:slurmdbd mariadbd:mariadb-server-core mariadb:mariadb-client-core)
missing=()
for pair in "${needed[@]}"; do
    PATH=$PATH:/usr/sbin command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
done
PATH=$PATH:/usr/sbin
mkdir -p "$lab"/{etc,run,log,controller,spool,devices}
chmod go-w "$lab"
echo "$base" >"$lab/etc/port_base"
if ((${#missing[@]})); then
    command -v apt-get >/dev/null || fail 2 "no apt-get to install ${missing[*]} with"
    [ "$(id -u)" = 0 ] || fail 2 "only root can install ${missing[*]}"
    install=(apt-get -o DPkg::Lock::Timeout=120 -y --no-install-recommends install "${missing[@]}")
    export DEBIAN_FRONTEND=noninteractive
    { "${install[@]}" || { apt-get update && "${install[@]}"; }; } >"$lab/log/apt.out" 2>&1 || { tail -n 20 "$lab/log/apt.out" >&2; fail 2 "the packages can't be installed"; }
fi

storage=accounting_storage/none
[ "$accounting" != yes ] || storage="accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((base + 19))
AccountingStoragePass=$socket
AccountingStorageTRES=gres/gpu"
for gpu in 0 1; do ln -sfn /dev/null "$lab/devices/gpu$gpu"; done
echo "AutoDetect=off
Name=gpu File=$lab/devices/gpu[0-1]" >"$lab/etc/gres.conf"
# FirstJobId: no two clusters of this machine have a job of the same number.
# cred_expire: a job that goes back into the queue waits so long; more than KillWait, or its old step is still there.
# preempt_send_user_signal: preemption sends the signal that the job asked for (--signal) before the grace time.
cat >"$SLURM_CONF" <<CONF
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthInfo=socket=$socket,cred_expire=6
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=$((base + 17))
SlurmctldPidFile=$lab/run/own.slurmctld.pid
SlurmctldLogFile=$lab/log/slurmctld.log
SlurmdPidFile=$lab/run/own.slurmd.%n.pid
SlurmdLogFile=$lab/log/slurmd.%n.log
SlurmdSpoolDir=$lab/spool/%n
StateSaveLocation=$lab/controller
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=$storage
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SchedulerParameters=batch_sched_delay=0,sched_interval=3,sched_min_interval=0,bf_interval=3
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
MaxArraySize=11
FirstJobId=$base
KillWait=3
ReturnToService=1
SlurmctldTimeout=30
SlurmdTimeout=20
GresTypes=gpu
NodeName=node[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((base + 101))-$((base + 100 + nodes))] CPUs=$cpus RealMemory=$memory Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 PriorityTier=1 GraceTime=15
PartitionName=high Nodes=ALL DefaultTime=10 MaxTime=60 PriorityTier=10 PreemptMode=OFF
CONF
echo "export SLURM_CONF=$SLURM_CONF SLURM_LAB=$lab" >"$lab/env.sh"

[ -s "$lab/etc/munge.key" ] || (umask 077; dd if=/dev/urandom of="$lab/etc/munge.key" bs=128 count=1 status=none)
running munged || rm -f "$socket" "$socket.lock"
daemon munged 0 munged --foreground --force --key-file="$lab/etc/munge.key" --socket="$socket" \
    --pid-file="$lab/run/own.munged.pid" --log-file="$lab/log/munged.log" --seed-file="$lab/run/munge.seed"
until_true munged bash -c "munge -n -S '$socket' | unmunge -S '$socket'"

if [ "$accounting" = yes ]; then
    [ -d "$lab/database/mysql" ] || mariadb-install-db --no-defaults --user="$user" --datadir="$lab/database" \
        --skip-test-db >"$lab/log/mariadb-install.out" 2>&1 || fail 4 "mariadb-install-db: see $lab/log/mariadb-install.out"
    echo "create database if not exists slurm_acct_db;
create user if not exists 'slurm'@'127.0.0.1' identified by 'slurm';
create user if not exists 'slurm'@'localhost' identified by 'slurm';
grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1', 'slurm'@'localhost';" >"$lab/etc/database.sql"
    daemon mariadbd $((base + 36)) mariadbd --no-defaults --user="$user" --datadir="$lab/database" --socket="$lab/run/mysql.socket" \
        --bind-address=127.0.0.1 --port=$((base + 36)) --pid-file="$lab/run/own.mariadbd.pid" --init-file="$lab/etc/database.sql" \
        --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=2 --performance-schema=OFF
    until_true mariadbd mariadb --no-defaults -h 127.0.0.1 -P $((base + 36)) -uslurm -pslurm -e 'select 1' slurm_acct_db
    (umask 077; cat >"$lab/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((base + 19))
CommunicationParameters=NoInAddrAny
SlurmUser=$user
LogFile=$lab/log/slurmdbd.log
PidFile=$lab/run/own.slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((base + 36))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
    )
    daemon slurmdbd $((base + 19)) slurmdbd -D
    until_true slurmdbd timeout 5 sacctmgr -n -P list cluster
    [ -n "$(sacctmgr -n -P list cluster lab format=cluster)" ] || sacctmgr -i add cluster lab >"$lab/log/sacctmgr.out" 2>&1 || fail 4 "sacctmgr: see $lab/log/sacctmgr.out"
fi

daemon slurmctld $((base + 17)) slurmctld -D -i
until_true slurmctld timeout 5 scontrol ping
for ((node = 1; node <= nodes; node++)); do
    mkdir -p "$lab/spool/node$node"
    daemon "slurmd.node$node" $((base + 100 + node)) slurmd -D -N "node$node"
done
for ((node = 1; node <= nodes; node++)); do # one that an earlier test took down comes back
    case $(sinfo -h -N -n "node$node" -p main -o %t) in drain* | drng* | down*) scontrol update nodename="node$node" state=resume || true ;; esac
done
until_true "a node" all_idle
echo "slurm: up, $(sinfo -h -N -p main -o '%N %t' | xargs); SLURM_CONF=$SLURM_CONF"
