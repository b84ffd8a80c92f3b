# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# A Slurm cluster for the tests, without systemd: munge, slurmctld and slurmd, all below one directory, ended by their PIDs. slurmd needs
# root. CLUSTER_NODES nodes, one unless told otherwise; several are in PID, IPC and mount namespaces of their own, with a /dev/shm of
# their own: killing such a slurmd is the fall of the node. Each has CLUSTER_CPUS, four unless told otherwise, whatever the machine has.

# cluster_start DIRECTORY PLUGIN: DIRECTORY must not exist; plugstack.conf has PLUGIN and its arguments in it. Sets SLURM_CONF.
cluster_start() {
    local directory=$1 plugin=$2 node
    mkdir -p "$directory"/{state,spool,log}
    chmod 755 "$directory" "$directory/log"
    chown slurm: "$directory/state" "$directory/log"
    CLUSTER=$directory
    : >"$CLUSTER/pids"
    export SLURM_CONF=$CLUSTER/slurm.conf
    echo "optional $plugin" >"$CLUSTER/plugstack.conf"
    cluster_configure >"$SLURM_CONF"
    cluster_is_22 || echo "CgroupPlugin=disabled" >"$CLUSTER/cgroup.conf" # a later slurmd would want systemd for them
    cluster_munge
    cluster_daemon slurmctld -D
    if [ "${CLUSTER_NODES:-1}" = 1 ]; then
        cluster_daemon slurmd -D -N n1
    else
        for node in $(seq "$CLUSTER_NODES"); do cluster_node "n$node"; done
    fi
    until_true 60 cluster_is_up || { cat "$CLUSTER"/log/* >&2; return 1; }
}

cluster_is_22() {
    [[ $(slurmd -V) == *" 22."* ]]
}

# The shell reaps what slurmd leaves.
cluster_node() {
    cluster_start_one unshare --mount --propagation private --pid --fork --kill-child --mount-proc --ipc \
        sh -c 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm || exit 1; "$@" & wait' sh slurmd -f "$SLURM_CONF" -D -N "$1"
    tail -n 1 "$CLUSTER/pids" >>"$CLUSTER/nodes"
}

# unshare(1) takes no notice of SIGTERM; with it the kernel ends all that is in the namespaces.
cluster_end_nodes() {
    local pid
    [ -e "$CLUSTER/nodes" ] || return 0
    while read -r pid; do
        kill -KILL "$pid" || :
        wait "$pid" || :
    done <"$CLUSTER/nodes" 2>/dev/null
}

# cluster_fell NODE: without a word, as by a cut cable, and Slurm is told at once instead of finding out in its own time.
cluster_fell() {
    kill -KILL "$(sed -n "${1#n}p" "$CLUSTER/nodes")"
    scontrol update "NodeName=$1" State=DOWN Reason=fell
}

cluster_node_lines() {
    local node
    if [ "${CLUSTER_NODES:-1}" = 1 ]; then
        echo "NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 CPUs=${CLUSTER_CPUS:-4} RealMemory=1000 State=UNKNOWN"
        return
    fi
    for node in $(seq "$CLUSTER_NODES"); do
        echo "NodeName=n$node NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$((30000 + $$ % 600 * 4 + node)) CPUs=${CLUSTER_CPUS:-4} RealMemory=1000 State=UNKNOWN"
    done
}

# Ports and ids of jobs of its own, so that tests may run side by side. CLUSTER_LINES: more lines.
cluster_configure() {
    local port=$((20000 + $$ % 5000 * 2)) # below the range of ports that the kernel gives out
    cat <<END
ClusterName=stasistest
SlurmctldHost=$(hostname)(127.0.0.1)
FirstJobId=$port
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=cred_expire=5,socket=$CLUSTER/munge.socket
StateSaveLocation=$CLUSTER/state
SlurmdSpoolDir=$CLUSTER/spool/%n
SlurmctldPidFile=$CLUSTER/slurmctld.pid
SlurmdPidFile=$CLUSTER/slurmd.%n.pid
SlurmctldLogFile=$CLUSTER/log/slurmctld.log
SlurmdLogFile=$CLUSTER/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0,requeue_delay=1,sched_min_interval=0
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
PlugStackConfig=$CLUSTER/plugstack.conf
MailProg=/bin/true
$(cluster_node_lines)
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
${CLUSTER_LINES:-}
END
}

# A munged of our own: its key, socket and files are in the cluster's directory.
cluster_munge() {
    install -d -o munge -m 755 "$CLUSTER/munge"
    ln -s munge/socket "$CLUSTER/munge.socket"
    head -c 128 /dev/urandom >"$CLUSTER/munge/key"
    chown munge: "$CLUSTER/munge/key"
    chmod 400 "$CLUSTER/munge/key"
    cluster_start_one setpriv --reuid=munge --regid=munge --clear-groups munged --foreground --force --key-file="$CLUSTER/munge/key" \
        --socket="$CLUSTER/munge/socket" --pid-file="$CLUSTER/munge/pid" --log-file="$CLUSTER/munge/log" \
        --seed-file="$CLUSTER/munge/seed"
    until_true 60 test -S "$CLUSTER/munge/socket"
}

cluster_start_one() {
    (close_foreign_descriptors; exec "$@") </dev/null >>"$CLUSTER/log/out" 2>&1 &
    echo "$!" >>"$CLUSTER/pids"
}

cluster_daemon() {
    cluster_start_one "$1" -f "$SLURM_CONF" "${@:2}"
}

# Slurm knows of no job any more. Of a cluster of one node.
cluster_forget() {
    local pid
    for pid in $(sed 1d "$CLUSTER/pids"); do # the first is munged's
        kill "$pid"
        until_true 60 is_gone "$pid"
    done
    sed -i 1q "$CLUSTER/pids"
    cluster_daemon slurmctld -D -c
    cluster_daemon slurmd -D -N n1
    until_true 60 cluster_is_up
}

cluster_is_up() {
    [ "$(sinfo -h -N -p main -o %t 2>/dev/null | grep -c '^idle')" = "${CLUSTER_NODES:-1}" ]
}

cluster_is_empty() {
    [ -z "$(squeue -h -o %A 2>/dev/null)" ]
}

cluster_stop() {
    local pid
    squeue -h -o %A 2>/dev/null | xargs -r scancel 2>/dev/null || :
    until_true 60 cluster_is_empty || :
    cluster_end_nodes
    for pid in $(tac "$CLUSTER/pids"); do kill "$pid" 2>/dev/null || :; done
    for pid in $(cat "$CLUSTER/pids"); do until_true 60 is_gone "$pid" || kill -KILL "$pid" 2>/dev/null || :; done
}
