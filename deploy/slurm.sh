#!/usr/bin/env bash
# A sweep on Slurm: a Ray cluster on the nodes of this allocation, one collect on it, and no trace after.
#
#     sbatch --nodes=4 --gpus-per-node=1 deploy/slurm.sh \
#         --space search_spaces/sentiment_lora.yaml --storage /shared/llmpred
#
# Its arguments are those of jobs/collect_ground_truth.py; LLMPRED_JOB names another script. Submit it
# from the project's folder, on a disk that all nodes see, with llmpred's environment active or its path
# in LLMPRED_VENV. Two minutes before the time limit, or when Slurm takes the nodes for another job, each
# run stops at its next step with a checkpoint, and the allocation is queued again to go on from there.

#SBATCH --job-name=llmpred
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=llmpred-%j.log

set -euo pipefail

job=${LLMPRED_JOB:-jobs/collect_ground_truth.py}
port=$((20000 + SLURM_JOB_ID % 10000)) # clusters on one machine keep apart, here and below
dashboard=$((30000 + SLURM_JOB_ID % 10000))
client=$((40000 + SLURM_JOB_ID % 10000))
scratch=/tmp/llmpred-ray-$SLURM_JOB_ID # short, for sockets lie in it
[ -z "${LLMPRED_VENV:-}" ] || PATH="$LLMPRED_VENV/bin:$PATH"
export PATH

# --- a token, which every process of this cluster needs and nobody else can read ------------------

private=$(umask 077 && mkdir -p "$HOME/.llmpred" && mktemp -d "$HOME/.llmpred/slurm-XXXXXX")
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$private/token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$private/token"
unset RAY_AUTH_TOKEN RAY_ADDRESS
export RAY_JOB_STOP_WAIT_TIME_S=90 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=3 RAY_USAGE_STATS_ENABLED=0

# --- the cluster ----------------------------------------------------------------------------------

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)
address=${address%% *}
cpus=${SLURM_CPUS_ON_NODE:-$(nproc)}
steps=()

# shellcheck disable=SC2329  # a trap calls it
finish() {
  trap - EXIT
  trap '' USR1 TERM
  if [ ${#steps[@]} -gt 0 ]; then
    kill "${steps[@]}" 2>/dev/null || true
    wait "${steps[@]}" 2>/dev/null || true
    srun --ntasks-per-node=1 rm -rf "$scratch" || true
  fi
  rm -rf "$private"
}
trap finish EXIT

# One step a node, which Slurm ends with the allocation. `--block` keeps Ray in the foreground of it.
start() {
  local node=$1
  shift
  srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap ray start --block --num-cpus="$cpus" \
    --temp-dir="$scratch" --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 "$@" \
    >>"$private/$node.log" 2>&1 &
  steps+=($!)
}

start "$head" --head --node-ip-address="$address" --port="$port" \
  --ray-client-server-port="$client" --dashboard-host=127.0.0.1 --dashboard-port="$dashboard"

# How many nodes have joined. This script runs on the first node of the allocation, which is the head.
alive() {
  python - "$address:$port" 2>/dev/null <<'END'
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
END
}

await() {
  local wanted=$1 seen=0
  for _ in {1..60}; do
    seen=$(alive || echo 0)
    [ "$seen" -lt "$wanted" ] || return 0
    for step in "${steps[@]}"; do kill -0 "$step" 2>/dev/null || break 2; done
    sleep 2
  done
  echo "llmpred: $seen of $wanted nodes joined the cluster; the last lines of each:" >&2
  tail -n 5 "$private"/*.log >&2
  return 1
}

await 1
for node in "${nodes[@]:1}"; do
  start "$node" --address="$address:$port"
done
await ${#nodes[@]}
echo "llmpred: Ray on ${#nodes[@]} nodes"

# --- the sweep, and what Slurm may do to it -------------------------------------------------------

submission="llmpred-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"
jobs="http://127.0.0.1:$dashboard" # the dashboard listens on the head alone, so jobs come from here
again=

# A stop asks the driver, which asks every run to stop at its next step. Slurm queues what it preempts
# by itself, but not what reaches its time limit.
# shellcheck disable=SC2329  # a trap calls it
stop() {
  echo "llmpred: $1; stopping at the next step of each run" >&2
  ray job stop --address "$jobs" --no-wait "$submission" >/dev/null 2>&1 || true
}
trap 'again=1; stop "the time limit is near"' USR1
trap 'stop "Slurm ends the job"' TERM

ray job submit --address "$jobs" --submission-id "$submission" --no-wait --working-dir . \
  -- python "$job" "$@"

# Following the log ends with the job, or with a lost connection: then the job goes on.
outcome=
for _ in {1..1000}; do
  ray job logs --address "$jobs" --follow "$submission" &
  logs=$!
  while kill -0 "$logs" 2>/dev/null; do wait "$logs" || true; done # a trapped signal ends a `wait`
  outcome=$(ray job status --address "$jobs" "$submission" 2>&1 || true)
  case $outcome in
    *"' succeeded"*) exit 0 ;;
    *"for job"*RUNNING* | *"for job"*PENDING*) sleep 5 ;;
    *) break ;;
  esac
done

if [ -n "$again" ]; then
  echo "llmpred: queued again, to go on from here" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit 1
