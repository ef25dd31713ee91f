#!/usr/bin/env bash
# Runs the commands of every `console` block of README.md, in order, in a fresh directory, and shows each with its output. Stops at
# the first command that fails. A block below a line `<!-- not run -->` is skipped, and so is `cargo test`.
#
#   scripts/readme_examples.sh [--small] [--needle FILE] [--out DIR] [--log FILE]
#
# --small    for the gate, takes some minutes: every sixth row of the sample data, and few steps, so the model learns little
# --needle   use this binary, instead of the one that `cargo run --release` builds
# --out      run the commands in this directory, which must not exist yet, and keep their files
# --log      also write everything that is shown to this file, for scripts/figures.py
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

is_small=false needle='' place='' log=/dev/null
while [ $# -gt 0 ]; do
    case $1 in
        --small) is_small=true; shift ;;
        --needle) needle=$(realpath "$2"); shift 2 ;;
        --out) place=$2; shift 2 ;;
        --log) mkdir -p "$(dirname "$2")"; log=$(realpath "$2"); shift 2 ;;
        *) echo "$1: unknown option; see the head of $0" >&2; exit 2 ;;
    esac
done
if [ -n "$place" ]; then
    mkdir -p "$(dirname "$place")"
    mkdir "$place"
else
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
fi
place=$(cd "$place" && pwd)

# The commands of the README, one per line; lines that end in a backslash are joined.
commands() {
    awk '
        /^<!-- not run -->$/ { is_left_out = 1; next }
        /^```console$/ { is_in_block = !is_left_out; is_left_out = 0; next }
        /^```/ { is_in_block = 0; next }
        !is_in_block { if (NF) is_left_out = 0; next }
        /^\$ / || is_continued {
            sub(/^\$ /, "")
            is_continued = sub(/\\$/, "")
            printf "%s%s", $0, is_continued ? "" : "\n"
        }
    ' "$root/README.md"
}

# With --small, the options that shorten a command.
small_settings() {
    $is_small || return 0
    case $1 in
        quickstart) echo --set steps=300 --set eval.every_steps=150 --set eval.max_examples=16 ;;
        finetune) echo --set steps=60 --set eval.every_steps=30 ;;
    esac
}

# Replace the commands of these names.
needle() {
    local settings
    settings=$(small_settings "$1")
    if [ -n "$settings" ]; then echo "(with $settings)"; fi
    # shellcheck disable=SC2086 # several words
    "${needle:-${CARGO_TARGET_DIR:-$root/target}/release/needle}" "$@" $settings
}
cargo() {
    case "$*" in
        "run --release -- "*)
            if [ -z "$needle" ]; then
                command cargo build --release --locked --manifest-path "$root/Cargo.toml" || return
            fi
            shift 3
            needle "$@"
            ;;
        "test --workspace") echo "(not run here)" ;;
        *) echo "cargo $*: this script does not know how to run it" >&2; return 1 ;;
    esac
}

cp -r "$root/configs" "$place/configs"
if $is_small; then
    awk 'NR % 6 == 1' "$root/configs/examples/smart_home.jsonl" > "$place/configs/examples/smart_home.jsonl"
fi
cd "$place"
if [ "$log" != /dev/null ]; then : > "$log"; fi
num_run=0
while IFS= read -r line <&3; do
    printf '\n$ %s\n' "$line" | tee -a "$log"
    # `eval` is safe here, because the commands are this repository's own.
    { eval "$line" < /dev/null 2>&1; } | tee -a "$log" || { echo "README.md: this command failed: $line" >&2; exit 1; }
    num_run=$((num_run + 1))
done 3< <(commands)
if [ "$num_run" -eq 0 ]; then
    echo "README.md has no console block" >&2
    exit 1
fi
printf '\n%s commands of README.md ran\n' "$num_run"
