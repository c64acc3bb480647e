#!/bin/sh
# One incident, twice: a trainer asked for 1,000 episodes in 6 seconds, with the faults that once let one run for three days, under
# supervisord with the original's way of saving, and under drover. The results side by side; status 0 if drover's are as promised.
#
#   examples/incident/run.sh [BUILD]        about 20 seconds; the control needs Debian's supervisor package and is left out without
#   INCIDENT_SECONDS=60                     more time for drover's run, on a busy machine
set -eu
build=$(cd "${1:-build/release}" && pwd)
drover=$build/cli/drover trainer=$build/examples/incident_trainer
place=$(cd "$(mktemp -d "${TMPDIR:-/tmp}/drover-incident-XXXXXX")" && pwd -P)
cleanup() {
  pids "$place" | xargs -r kill -9 2>/dev/null || true
  rm -rf "$place"
}
trap cleanup EXIT INT TERM
cd "$place"

# Processes of this demo, which all work in its directory, whose command line names a path.
pids() {
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/cwd" 2> /dev/null)" = "$place" ] || continue
    { tr '\0' ' ' < "$process/cmdline"; } 2>/dev/null | grep -q -- "$1" && basename "$process" || true
  done | grep -vx "$$" || true
}
count() { pids "$1" | grep -c . || true; }

# ---- the control -----------------------------------------------------------------------------------------------------------------
c_episodes=- c_left=- c_newest=- c_good=- c_served=- c_features=- c_why=-
if command -v supervisord > /dev/null; then
  mkdir control
  cat > supervisord.conf <<END
[supervisord]
logfile=$place/control/supervisord.log
pidfile=$place/control/supervisord.pid
[program:trainer]
command=$trainer control $place/control 1000 9
autorestart=true
startsecs=0
startretries=1000
END
  supervisord -n -c supervisord.conf > /dev/null 2>&1 &
  supervisor=$!
  sleep 7   # a second more than it was given
  c_episodes="$(cat control/episodes), still running"
  kill -9 "$supervisor"
  wait "$supervisor" 2> /dev/null || true
  sleep 0.5
  c_left=$(count "$trainer control")
  pids "$trainer control" | xargs -r kill -9 2> /dev/null || true
  written=$(cat control/episodes) newest=$((written / 50 * 50))
  kept=$(cd control && ls checkpoint_ep*.pth | sed 's/[^0-9]//g' | sort -n | tr '\n' ' ')
  case " $kept " in *" $newest "*) c_newest=kept ;; *) c_newest="lost: wrote $newest, kept $kept" ;; esac
  case " $kept " in *" 400 "*) c_good=kept ;; *) c_good=deleted ;; esac
  c_served="latest.pth, HOLD in $(sed 's/.*hold 0\.//' control/latest.pth) %"
  "$trainer" control "$place/control" 1 3 > /dev/null 2>&1 || true
  c_features=$(grep -o 'features repeated.*' control/log 2> /dev/null | head -1 || echo -)
  c_why="nothing says"
fi

# ---- drover ----------------------------------------------------------------------------------------------------------------------
features() {  # N columns
  printf '{"features": ['
  i=0
  while [ $i -lt "$1" ]; do
    [ $i = 0 ] || printf ', '
    printf '{"name": "f%s", "dtype": "float32", "shape": [], "scale": 1}' $i
    i=$((i + 1))
  done
  printf ']}\n'
}
features 9 > nine.json
features 3 > three.json
figure() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" "$2" | tail -1; }
ours() {  # JOB FINGERPRINT
  "$drover" guard --json --progress none --job "$1" --notify --store store --fingerprint "$2" --steps 1000 --wall "${INCIDENT_SECONDS:-6}s" --grace 200ms \
    --restart transient --probe 'finite; share policy 0.9' -- "$trainer" guarded 1000 > "$1.json" 2> "$1.err" || true
}
ours run nine.json
d_episodes="$(figure step run.json), ended: $(figure outcome run.json)"
d_why=$(figure exit_reason run.json)
"$drover" ckpt ls --store store --json > ls.json
good=$(tr '{' '\n' < ls.json | grep '"head":true' | sed 's/.*"step":\([0-9]*\).*/\1/')
good=${good:-$("$drover" ckpt ls --store store | sed -n 's/.*step \([0-9]*\).*head.*/\1/p')}
"$drover" ckpt verify --store store > /dev/null && d_newest="kept, every byte verified" || d_newest=damaged
[ "$good" = 400 ] && d_good="kept: it is the head" || d_good="the head is $good"
d_served="step $good, the newest good one"
# Killed in the middle: who is left?
"$drover" guard --progress none --job killed --notify --store other --restart transient -- "$trainer" guarded 1000 > /dev/null 2>&1 &
supervisor=$!
sleep 0.5
kill -9 "$supervisor"
wait "$supervisor" 2> /dev/null || true
sleep 0.5
d_left=$(count "$trainer guarded")
ours mismatch three.json
d_features=$(figure exit_reason mismatch.json)

row() { printf '%-44s | %-42s | %s\n' "$1" "$2" "$3"; }
row "asked for 1,000 episodes in 6 s" "supervisord, temp + rename" "drover guard"
row "--------------------------------------------" "------------------------------------------" "------------------------------"
row "episodes trained" "$c_episodes" "$d_episodes"
row "processes left when the supervisor is killed" "$c_left" "$d_left"
row "the newest checkpoint" "$c_newest" "$d_newest"
row "the last one before the collapse (400)" "$c_good" "$d_good"
row "what would be served now" "$c_served" "$d_served"
row "three features instead of nine" "$c_features" "refused: $d_features"
row "why it ended" "$c_why" "$d_why"

[ "$(figure outcome run.json)" = gave_up ] && [ "$(figure step run.json)" -le 1000 ] && [ "$d_left" = 0 ] && [ "$good" = 400 ] && [ "$d_newest" != damaged ] &&
  [ "$(figure command_end mismatch.json)" = not_started ] && echo "drover kept its promises"
