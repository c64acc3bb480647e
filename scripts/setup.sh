# Set-up shared by ./drover, ./test and .ci/run: packages, configure, build. Sourced by bash, from the repository's root.
#
# The caller's stdout stays clean: everything here speaks on stderr, one line a step, and says more only when a step fails.
# A call that finds nothing to do costs one hash, one no-op ninja run and no apt-get.
#
#   DROVER_PRESET     a configure preset of CMakePresets.json, default release
#   DROVER_BUILD_DIR  where to build instead of build/$DROVER_PRESET
#   DROVER_JOBS       parallel compilations, default one a usable core

setup_preset=${DROVER_PRESET:-release}
setup_dir=${DROVER_BUILD_DIR:-build/$setup_preset}
setup_log=$setup_dir/setup.log

setup_say() { printf 'drover: setup: %s\n' "$*" >&2; }

# setup_fail WHAT ADVICE: one clear line, one line on what to do.
setup_fail() {
  printf 'drover: setup: %s\n' "$1" >&2
  printf '  %s\n' "$2" >&2
  exit 4
}

# The names in packages.txt under [SECTION].
setup_packages() {
  awk -v want="[$1]" '/^\[/ { on = ($1 == want); next } on && NF && $1 !~ /^#/ { print $1 }' packages.txt
}

# Those of the named packages that dpkg does not have installed, in one query.
setup_missing() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p')
  comm -23 <(printf '%s\n' "$@" | sort -u) <(printf '%s\n' "$installed" | sort -u)
}

# setup_install PACKAGE...: apt-get, as root or through sudo. Returns 1 with the reason in setup_why when it cannot.
setup_install() {
  local as_root=()
  setup_why=
  if ! command -v apt-get >/dev/null; then
    setup_why='this is not a Debian system (no apt-get)'
    return 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      setup_why='not root, and sudo is not installed'
      return 1
    fi
    if ! sudo -n true 2>/dev/null && ! [ -t 0 ]; then
      setup_why='not root, and sudo wants a password but there is no terminal to ask on'
      return 1
    fi
    as_root=(sudo)
  fi
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  setup_say "installing $# packages: $*"
  if ! "${apt[@]}" update >>"$setup_log" 2>&1; then
    setup_say "apt-get update failed (its words are in $setup_log); trying to install from the package lists already here"
  fi
  if ! "${apt[@]}" install -y --no-install-recommends "$@" >>"$setup_log" 2>&1; then
    setup_why='apt-get install failed'
    tail -n 15 "$setup_log" >&2
    return 1
  fi
}

# Installs what [build] names and this machine has not; asks dpkg only when packages.txt changed since it was last complete.
setup_require_packages() {
  local stamp wanted missing
  read -r stamp _ < <(sha256sum packages.txt)
  stamp=$setup_dir/packages-$stamp
  [ -e "$stamp" ] && return
  if ! command -v dpkg-query >/dev/null; then
    setup_say 'not a Debian system: going on without checking packages; packages.txt lists what the build needs'
    return
  fi
  mapfile -t wanted < <(setup_packages build)
  mapfile -t missing < <(setup_missing "${wanted[@]}")
  if [ "${#missing[@]}" -gt 0 ]; then
    setup_install "${missing[@]}" ||
      setup_fail "missing packages cannot be installed: $setup_why" "as root: apt-get install --no-install-recommends ${missing[*]}"
  fi
  rm -f "$setup_dir"/packages-*
  : >"$stamp"
}

# setup_build TARGET...: configures where needed and builds the targets.
setup_build() {
  local jobs=${DROVER_JOBS:-$(nproc)}
  if [ ! -e "$setup_dir/build.ninja" ]; then
    setup_say "configuring $setup_dir"
    if ! cmake --preset "$setup_preset" -B "$setup_dir" >>"$setup_log" 2>&1; then
      rm -f "$setup_dir"/packages-* # a package may have been removed: look again next time
      tail -n 30 "$setup_log" >&2
      setup_fail "configuring failed (all of it: $setup_log)" 'run the same command again after mending it; to start over remove the build directory'
    fi
  fi
  local ok=0
  if [ -t 2 ]; then
    # ninja rewrites one status line on a terminal; it is wiped before the program speaks.
    (cd "$setup_dir" && NINJA_STATUS='drover: building [%f/%t] %es ' exec ninja -j "$jobs" "$@") >&2 || ok=$?
    [ "$ok" -ne 0 ] || printf '\033[1A\033[2K\r' >&2
  else
    ninja -C "$setup_dir" -j "$jobs" "$@" >>"$setup_log" 2>&1 || ok=$?
    [ "$ok" -eq 0 ] || { grep -A 12 -m 3 -E '(^FAILED|error:)' <(tail -n 400 "$setup_log") || tail -n 40 "$setup_log"; } >&2
  fi
  [ "$ok" -eq 0 ] || setup_fail "the build failed (preset $setup_preset, in $setup_dir)" 'the compiler'\''s first error above says where'
}

# setup_all TARGET...: everything, one caller at a time for a build directory.
setup_all() {
  mkdir -p "$setup_dir" || setup_fail "cannot make the build directory $setup_dir" 'set DROVER_BUILD_DIR to a directory you may write'
  exec 9>"$setup_dir/setup.lock"
  if ! flock -n 9; then
    setup_say "another set-up works in $setup_dir; waiting for it (at most 30 minutes)"
    flock -w 1800 9 || setup_fail 'the other set-up did not end' "see who holds it: fuser $setup_dir/setup.lock"
  fi
  [ "$(stat -c %s "$setup_log" 2>/dev/null || echo 0)" -lt 4000000 ] || rm -f "$setup_log"
  setup_require_packages
  setup_build "$@"
  exec 9>&-
}
