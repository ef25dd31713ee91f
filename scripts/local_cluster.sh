#!/usr/bin/env bash
# Makes a cluster on one machine: 2 to 4 hosts (network namespaces with their own addresses, joined by a bridge), on which MPI runs
# over TCP. Trains on them, cuts the link of one host in the middle, checks that every process ends with an error within a minute,
# resumes, and compares with an uninterrupted run. Leaves nothing behind.
#
#   cargo build --release --features mpi && sudo scripts/local_cluster.sh [HOSTS] [NEEDLE]
#
# Needs root, iproute2 and OpenMPI.
set -euo pipefail

hosts=${1:-3}
needle=$(realpath "${2:-target/release/needle}")
[[ $hosts =~ ^[234]$ ]] || { echo "HOSTS must be 2, 3 or 4" >&2; exit 2; }
place=$(mktemp -d)
name=needle$$
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

clean_up() {
    status=$?
    # Namespaces, and with them their links, end with the last process in them.
    for ((i = 0; i < hosts; i++)); do
        ip netns pids "$name-$i" 2> /dev/null | xargs -r kill -KILL 2> /dev/null || true
        ip netns del "$name-$i" 2> /dev/null || true
        ip link del "v$i-$$" 2> /dev/null || true
    done
    ip link del "b$$" 2> /dev/null || true
    rm -rf "$place"
    exit "$status"
}
trap clean_up EXIT

# One bridge; each host has a link to it.
ip link add "b$$" type bridge
ip link set "b$$" up
for ((i = 0; i < hosts; i++)); do
    ip netns add "$name-$i"
    ip link add "v$i-$$" type veth peer name eth0 netns "$name-$i"
    ip link set "v$i-$$" master "b$$" up
    ip -n "$name-$i" addr add "10.77.0.$((i + 1))/24" dev eth0
    ip -n "$name-$i" link set eth0 up
    ip -n "$name-$i" link set lo up
    echo "10.77.0.$((i + 1)) slots=1" >> "$place/hosts"
done

# Runs a command on a host: `on ADDRESS COMMAND..`. mpirun starts its daemons with it, instead of ssh.
cat > "$place/on" <<EOS
#!/usr/bin/env bash
index=\$((\${1##*.} - 1)); shift
mkdir -p "$place/tmp\$index"
export OMPI_MCA_orte_tmpdir_base="$place/tmp\$index"
exec ip netns exec "$name-\$index" unshare --uts bash -c "hostname node\$index; \$*"
EOS
chmod +x "$place/on"

cd "$place"
"$needle" data synth --count 2000 --brief --max-tools 2 --max-calls 1 > data.jsonl
"$needle" data synth --count 20 --brief --max-tools 2 --max-calls 1 --held-out > val.jsonl
cat > recipe.toml <<'TOML'
model = "tiny"
steps = 600
tokenizer = { vocab_size = 500 }
data = { rows = 12, lanes = 12, row_enc_tokens = [128, 256], row_dec_tokens = [64, 128], pack_window = 64, shuffle_buffer_mb = 1 }
eval = { every_steps = 200, max_examples = 8, max_tokens = 16 }
checkpoint = { every_steps = 25 }
TOML

train() { # OUT [MORE..]: on all hosts, one process each; only TCP, since shared memory would not cross machines.
    local out=$1; shift
    "$place/on" 10.77.0.1 mpirun -n "$hosts" --hostfile hosts --map-by node --bind-to none \
        --mca plm_rsh_agent "$place/on" --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 \
        --mca oob_tcp_if_include 10.77.0.0/24 --mca mpi_yield_when_idle 1 \
        --mca oob_tcp_keepalive_time 10 --mca oob_tcp_keepalive_intvl 5 --mca oob_tcp_keepalive_probes 3 \
        "$needle" train --config recipe.toml --data data.jsonl --val val.jsonl --out "$out" -q "$@"
}
steps() { grep -c '"event":"step"' "$1/metrics.jsonl" 2> /dev/null || true; }

echo "== $hosts hosts, an uninterrupted run"
train whole | grep trained
steps whole

last=$((hosts - 1))
echo "== the same run; after some steps, the link of host $last is cut"
train cut > cut.log 2>&1 &
run=$!
for ((i = 0; i < 600; i++)); do
    [ "$(steps cut)" -ge 100 ] 2> /dev/null && break
    sleep 0.1
done
[ "$(steps cut)" -ge 100 ] || { cat cut.log; echo "the run did not reach step 100" >&2; exit 1; }
ip link set "v$last-$$" down
SECONDS=0
# mpirun cannot reach the host that is cut off either: its process has to notice by itself.
while pgrep -f "^$needle train .*--out cut" > /dev/null && [ $SECONDS -lt 90 ]; do sleep 0.2; done
echo "no process was left after $SECONDS s"
grep -h "went missing" cut.log | sort | uniq -c || true
[ $SECONDS -le 60 ] || { echo "that is more than 60 s" >&2; exit 1; }
grep -q "rank .* went missing" cut.log || { cat cut.log; echo "no process reported which rank went missing" >&2; exit 1; }
status=0
wait "$run" || status=$?
echo "mpirun ended $SECONDS s after the cut"
[ "$status" -ne 0 ] || { echo "the run ended without an error" >&2; exit 1; }
echo "ended with status $status after step $(steps cut)"

echo "== the link is back; the same command with --resume"
ip link set "v$last-$$" up
# Kill what mpirun left on the host that it could no longer reach.
for ((i = 0; i < hosts; i++)); do
    ip netns pids "$name-$i" | xargs -r kill -KILL 2> /dev/null || true
done
sleep 2
train cut --resume | grep trained
[ "$(steps cut)" = "$(steps whole)" ] || { echo "$(steps cut) steps instead of $(steps whole)" >&2; exit 1; }
cmp cut/last/model.safetensors whole/last/model.safetensors
cmp cut/last/trainer/optimizer.safetensors whole/last/trainer/optimizer.safetensors
echo "the result is bit-identical to that of the uninterrupted run"
