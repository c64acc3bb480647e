# Walks scripts/setup.sh through a machine that lacks packages, with stand-ins for apt-get, sudo, id and dpkg-query, in an empty
# scratch directory given as the only argument. Prints nothing when all is well.
set -u
scratch=$1
mkdir -p "$scratch/bin" "$scratch/build"
export DROVER_BUILD_DIR=$scratch/build

stand_in() { # stand_in NAME LINE...
  local name=$1
  shift
  printf '%s\n' '#!/bin/bash' "$@" >"$scratch/bin/$name"
  chmod +x "$scratch/bin/$name"
}
stand_in dpkg-query "for word; do case \$word in -*|libxxhash-dev|libsqlite3-dev|*Status*) ;; *) echo \"installed \$word\";; esac; done"
run() { # run: set-up of packages alone; $status, $said, $asked (what apt-get was asked)
  rm -f "$scratch/asked" "$scratch"/build/packages-*
  said=$(PATH=$scratch/bin:$PATH bash -c '. scripts/setup.sh; setup_require_packages' 2>&1 </dev/null)
  status=$?
  asked=$(cat "$scratch/asked" 2>/dev/null)
}
expect() { # expect WHAT CONDITION...
  local what=$1
  shift
  "$@" || printf '%s: status %s, said: %s; apt-get: %s\n' "$what" "$status" "$said" "$asked"
}
says() { case $said in *"$1"*) ;; *) return 1 ;; esac; }

stand_in apt-get "echo \"\$DEBIAN_FRONTEND \$*\" >> '$scratch/asked'"
stand_in id 'echo 0'
run
expect 'root installs' test "$status" -eq 0
expect 'the lists are fetched first, nobody is asked' test "$(printf '%s' "$asked" | head -n 1 | grep -c '^noninteractive .*update$')" -eq 1
expect 'only what is missing is installed' test "$(printf '%s\n' "$asked" | tail -n 1 | sed 's/.*recommends //')" = 'libsqlite3-dev libxxhash-dev'
expect 'the next call does not look again' test -e "$(ls "$scratch"/build/packages-* 2>/dev/null)"

stand_in apt-get 'echo "E: no such mirror"; exit 100'
run
expect 'an apt-get that fails ends it' test "$status" -eq 4
expect 'its own words are shown' says 'no such mirror'
expect 'the command to type is shown' says 'apt-get install --no-install-recommends libsqlite3-dev libxxhash-dev'
expect 'a failure leaves no stamp' test -z "$(ls "$scratch"/build/packages-* 2>/dev/null)"

stand_in id 'echo 1000'
stand_in sudo '[ "$1" != -n ] || exit 1; exec "$@"'
run
expect 'a password nobody can type is not asked for' says 'no terminal to ask on'
stand_in sudo '[ "$1" != -n ] || exit 0; exec "$@"'
stand_in apt-get "echo \"sudo \$*\" >> '$scratch/asked'"
run
expect 'a user installs through sudo' test "$status" -eq 0
