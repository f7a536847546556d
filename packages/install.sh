#!/usr/bin/env bash
# Installs a host of a flake: looks at the machine, builds, asks, erases, installs, and waits until its node is Ready.
set -euo pipefail

# The folder of look.sh; beside this file unless the package says otherwise.
: "${HATRACK_LIBEXEC:=$(dirname "${BASH_SOURCE[0]}")}"

# The kexec installer lives in memory, with what it copies.
readonly LEAST_MEMORY_KB=1500000

usage() {
  cat <<'USAGE'
Usage: nix run .#install -- NAME [USER@]HOST [OPTION]...

Installs host NAME of the flake on the machine that answers on ssh at HOST. Everything on the host's disks is erased.
For a Raspberry Pi, `nix run .#install -- NAME` says how to write its card.

  --flake FLAKE        the flake [default: .]
  --report             write hosts/NAME/facter.json of the flake, the machine's report of its hardware, and
                       stop: it restarts into the installer, and its disks stay as they are; a Raspberry Pi
                       says it as it runs, and nothing changes there
  --dry-run            look at the machine and print every command; ask, erase and install nothing
  --yes-erase NAME     do not ask; NAME must be the host's
  --host-key FILE      the host's age key, encrypted by sops or not [default: hosts/NAME/host.age of the flake]
  --token FILE         what the host enrolls with, if it is no member of Kubernetes and its secrets hold no token
                       [default: a new one, made by `hatrack token create`]
  --disk-key FILE      passphrase of encrypted disks
  --identity FILE      ssh key to log in with
  --port PORT          port of ssh on the machine as it is now [default: 22]
  --port-after PORT    port of ssh in the installer and in the new system [default: 22]
  --wait MINUTES       how long the node may take to be Ready, or seconds as in 90s; 0 does not wait [default: 15]
USAGE
}

say() { printf '%s\n' "$*" >&2; }

# fail PROBLEM HINT
fail() {
  say "error: $1"
  say "hint: $2"
  exit 2
}

# refuse TITLE REASON...
refuse() {
  say "error: $1:"
  shift
  printf '  %s\n' "$@" >&2
  say "hint: $outcome"
  exit 1
}

step() { say "[$1/6] $2"; }

# Runs a command, or prints it.
run() {
  if [ "$dry_run" = yes ]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# run_into FILE COMMAND...
run_into() {
  local file=$1
  shift
  if [ "$dry_run" = yes ]; then
    printf '%q ' "$@"
    printf '>%q\n' "$file"
  else
    "$@" >"$file"
  fi
}

parse_arguments() {
  # What to say of the machine where it goes no further.
  outcome="nothing was changed"
  flake=. dry_run=no report=no erase='' host_key='' token='' disk_key='' identity='' port=22 port_after=22 wait=15
  local positional=()
  while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry_run=yes ;;
    --report) report=yes ;;
    --help | -h)
      usage
      exit 0
      ;;
    --flake | --yes-erase | --host-key | --token | --disk-key | --identity | --port | --port-after | --wait)
      [ $# -ge 2 ] || fail "$1 needs a value" "see --help"
      case $1 in
      --flake) flake=$2 ;;
      --yes-erase) erase=$2 ;;
      --host-key) host_key=$2 ;;
      --token) token=$2 ;;
      --disk-key) disk_key=$2 ;;
      --identity) identity=$2 ;;
      --port) port=$2 ;;
      --port-after) port_after=$2 ;;
      --wait) wait=$2 ;;
      esac
      shift
      ;;
    -*) fail "$1 is not an option" "see --help" ;;
    *) positional+=("$1") ;;
    esac
    shift
  done
  case ${#positional[@]} in
  1 | 2) ;;
  *) fail "NAME and HOST are needed" "see --help" ;;
  esac
  name=${positional[0]}
  [[ $name != *@* ]] || fail "$name is no name of a host" "the name comes first: nix run .#install -- NAME root@ADDRESS"
  target=${positional[1]-}
  # An address of IPv6 has brackets in an URL, and none for ssh.
  case $target in *\[*\]) target=${target/\[/} target=${target%\]} ;; esac
  [[ $wait =~ ^[0-9]+s?$ ]] || fail "--wait $wait is no number of minutes or seconds" "see --help"
  case $wait in *s) wait_seconds=${wait%s} ;; *) wait_seconds=$((wait * 60)) ;; esac
  host_folder=$(find_host_folder)
}

# The host's folder in the flake; empty where the flake is no folder on this machine.
find_host_folder() {
  local root=${flake%%\?*}
  case $root in
  path:* | git+file:*)
    root=${root#*:}
    root=${root#//}
    ;;
  . | .. | ./* | ../* | /*) ;;
  *) return ;;
  esac
  [[ ! $flake =~ [?\&]dir=([^\&]*) ]] || root+=/${BASH_REMATCH[1]}
  root=$(realpath --canonicalize-missing "$root")
  # Nix looks for the flake in the folders above as well.
  local above=$root
  until [ -z "$above" ] || [ -e "$above/flake.nix" ]; do above=${above%/*}; done
  root=${above:-$root}
  if [ "$root" -ef . ]; then
    echo "hosts/$name"
  else
    echo "$root/hosts/$name"
  fi
}

read_facts() {
  facts=$(nix eval --json "$flake#nixosConfigurations.$name.config.hatrack.installation") ||
    fail "the flake has no host $name that evaluates" "correct what is said above; \`nix flake check\` checks all hosts"
  mapfile -t disks < <(jq --raw-output '.disks[]' <<<"$facts")
}

fact() { jq --raw-output ".$1 // empty" <<<"$facts"; }

explain_card() {
  cat <<CARD
$name is installed from a card:

  nix build $flake#nixosConfigurations.$name.config.system.build.sdImage
  zstd --decompress --stdout result/sd-image/*.img.zst | sudo dd of=/dev/disk/by-id/YOUR-CARD bs=4M conv=fsync status=progress

On a machine that is not aarch64, the build needs a remote builder or boot.binfmt.emulatedSystems = [ "aarch64-linux" ].
Put the card in and switch the Pi on; \`hatrack nodes $name\` shows it once it has registered.
CARD
  local place reader
  place=$(fact hostKey)
  # Of a flake that is elsewhere, as in a copy of it.
  : "${host_folder:=hosts/$name}"
  find_host_key
  reader=$(printf '%q ' "${key_reader[@]}")
  [ -z "$place" ] || cat <<CARD

Its card holds no secrets. After its first boot, bring the key with which it reads them, and restart it:

  key=\$(${reader% }) && ssh root@ADDRESS \\
    'install -D -m 400 /dev/stdin $place && systemctl reboot' <<<"\$key"
CARD
  place=$(fact tokenFile)
  [ -z "$place" ] || cat <<CARD

It enrolls with a token, which you bring after its first boot:

  token=\$(hatrack token create $name --class $(fact class)) && ssh root@ADDRESS \\
    'install -D -m 600 /dev/stdin $place && systemctl restart hatrack-agent' <<<"\$token"
CARD
}

# The file with the host's key, and what prints the key.
find_host_key() {
  if [ -z "$host_key" ]; then
    [ -n "$host_folder" ] || fail "$flake is no folder that has the key with which $name reads its secrets" "name its file with --host-key"
    host_key=$host_folder/host.age
  fi
  if [ -f "$host_key" ] && ! grep -q '"sops"\|^sops:' "$host_key"; then
    key_reader=(cat "$host_key")
  else
    key_reader=(sops decrypt "$host_key")
  fi
}

# ssh as this script and nixos-anywhere use it. nixos-anywhere turns the check of host keys off; the first value of an
# option counts for ssh, so these come before it.
prepare_ssh() {
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/bin"
  local real checks=()
  real=$(command -v ssh)
  # The machine keeps its host key, under whatever port it then answers.
  [ "$port" = "$port_after" ] || checks+=(-o "HostKeyAlias=$(known_as "$real")")
  {
    echo '#!/bin/sh'
    printf '%q ' exec "$real" -o StrictHostKeyChecking=yes -o "UserKnownHostsFile=${HATRACK_KNOWN_HOSTS:-$HOME/.ssh/known_hosts}" "${checks[@]}"
    echo '"$@"'
  } >"$work/bin/ssh"
  chmod +x "$work/bin/ssh"
  PATH=$work/bin:$PATH
  ssh_options=(-p "$port")
  anywhere_options=(--ssh-port "$port" --post-kexec-ssh-port "$port_after")
  if [ -n "$identity" ]; then
    ssh_options+=(-i "$identity" -o IdentitiesOnly=yes)
    anywhere_options+=(-i "$identity")
  fi
}

# Under which name the key of the target is known at its first port.
known_as() {
  local settings name
  settings=$("$1" -G -p "$port" "$target")
  name=$(awk '$1 == "hostkeyalias" { print $2 }' <<<"$settings")
  [ -n "$name" ] || name=$(awk '$1 == "hostname" { print $2 }' <<<"$settings")
  if [ "$port" = 22 ]; then echo "$name"; else echo "[$name]:$port"; fi
}

# ssh as a person types it, to be pasted.
as_typed() {
  local words=(ssh)
  [ "${ssh_options[1]}" = 22 ] || words+=(-p "${ssh_options[1]}")
  [ -z "$identity" ] || words+=(-i "$identity")
  printf '%q ' "${words[@]}"
  printf %s "$1"
}

# access_of MACHINE ADDRESS: how its access to the cluster is fetched.
access_of() { printf "(umask 077; %s cat /etc/rancher/k3s/k3s.yaml | sed 's/127.0.0.1/%s/' >kubeconfig)" "$1" "$(in_url "$2")"; }

# From now on ssh goes to what comes after: the installer, and then the new system.
use_port_after() {
  ssh_options[1]=$port_after
  anywhere_options[1]=$port_after
}

be_in_the_installer() {
  # nixos-anywhere does not restart what is one already.
  [ "$(seen_value installer)" = yes ] || use_port_after
  outcome="nothing was erased; the machine is in the installer"
}

look_command() { looks=(ssh "${ssh_options[@]}" -o ConnectTimeout=10 "$1" sh -s -- "${disks[@]@Q}"); }

print_look() {
  look_command "$1"
  printf '%q ' "${looks[@]}"
  printf '<%q\n' "$HATRACK_LIBEXEC/look.sh"
}

# look WHERE: the facts of the machine there, in $seen. It changes nothing, so that it is done where commands are printed as well.
look() {
  [ "$dry_run" = no ] || print_look "$1"
  look_command "$1"
  seen=$("${looks[@]}" <"$HATRACK_LIBEXEC/look.sh") ||
    fail "$1 cannot be looked at by ssh" "log in once with \`$(as_typed "$1")\`, compare its host key and install your own, unless ssh says something else above; $outcome"
}

seen_value() { sed -n "s/^$1=//p" <<<"$seen"; }

# Whether the host finds its disks through this kernel module: both spellings of a name are one.
drives() { jq --exit-status --arg driver "${1//-/_}" '[.initrdModules[]? | gsub("-"; "_") == $driver] | any' <<<"$facts" >/dev/null; }

# A reason against whatever restarts a machine.
node_that_runs() {
  [ -z "$(seen_value running)" ] ||
    echo "it is a running node of a cluster ($(seen_value running | tr '\n' ' ')is active); drain it, then stop it there"
}

# Every reason against installing, before the first is acted on.
judge() {
  local problems=() architecture
  architecture=$(seen_value architecture)
  [ "$architecture-linux" = "$(fact system)" ] ||
    problems+=("it is $architecture, and $name is built for $(fact system)")
  [ "$(seen_value uefi)" = yes ] ||
    problems+=("it was not started by UEFI; switch its firmware from legacy to UEFI")
  [ "$(seen_value memory)" -ge $LEAST_MEMORY_KB ] ||
    problems+=("it has $(($(seen_value memory) / 1024)) MiB of memory, and the installer needs $((LEAST_MEMORY_KB / 1024))")
  local runs
  runs=$(node_that_runs)
  [ -z "$runs" ] || problems+=("$runs")
  local missing
  missing=$(seen_value disk | sed -n 's/ missing$//p')
  local disk module
  while read -r disk module; do
    [ -z "$module" ] || drives "$module" ||
      problems+=("it reaches $disk by the kernel module $module, which the first stage of $name does not have: its report has it (--report, then hardware.facter.reportPath and \`git add\`), or boot.initrd.availableKernelModules")
  done < <(seen_value driver)
  [ -z "$missing" ] ||
    problems+=("it does not have $(tr '\n' ' ' <<<"$missing")of the host's disks; see ls -l /dev/disk/by-id there")
  local busy place
  while read -r busy place; do
    problems+=("$busy is in use ($place); what is on it would be erased: unmount it there first, and be sure that it is the right machine")
  done < <(seen_value busy)
  [ ${#problems[@]} -eq 0 ] || refuse "$name cannot be installed on $1" "${problems[@]}"
}

show_disks() {
  say "These disks of $(seen_value hostname) will be erased:"
  seen_value disk | awk '{ printf "  %s, %d GB: ", $1, $2 / 1e9; $1 = $2 = ""; print substr($0, 3) }' >&2
}

lacks_tpm() { [ "$(fact encrypted)" = true ] && [ "$(seen_value tpm)" != yes ]; }

# Before the answer: not every system that a machine runs has a driver for its TPM.
warn_of_tpm() {
  knows_of_tpm=no
  lacks_tpm || return 0
  knows_of_tpm=yes
  say "warning: $(seen_value hostname) shows no TPM 2.0: if the installer finds none either, the passphrase of its disks is asked for at its console at each boot"
}

# In the installer, whose kernel has the drivers: disko enrolls what is there, and says nothing of what is not.
judge_tpm() {
  lacks_tpm || return 0
  local without="it has no TPM 2.0: the passphrase of its disks will be asked for at its console at each boot"
  [ "$knows_of_tpm" = yes ] || refuse "$name cannot be installed on $1 as was confirmed" "$without; start again to confirm that"
  say "warning: $without"
}

confirm() {
  if [ -z "$erase" ] && [ "$dry_run" = no ]; then
    read -r -p "Type the name of the host to erase them: " erase </dev/tty || true
  fi
  if [ "$dry_run" = no ] && [ "$erase" != "$name" ]; then
    fail "\`$erase\` is not $name" "$outcome"
  fi
}

build() {
  local attribute=$flake#nixosConfigurations.$name.config.system.build
  if [ "$dry_run" = yes ]; then
    run nix build --no-link --print-out-paths "$attribute.diskoScript" "$attribute.toplevel"
    nix eval --raw "$attribute.toplevel.drvPath" >/dev/null || fail "$name does not build" "correct what is said above; $outcome"
    disko_script=DISKO-SCRIPT toplevel=TOPLEVEL
    return
  fi
  if ! { disko_script=$(nix build --no-link --print-out-paths "$attribute.diskoScript") &&
    toplevel=$(nix build --no-link --print-out-paths "$attribute.toplevel"); }; then
    fail "$name does not build" "correct what is said above; $outcome"
  fi
}

# The host's key goes to the machine before its first boot: with another one it could not read its secrets.
collect_files() {
  extra=() files=$work/files
  [ "$dry_run" = no ] || files=EXTRA-FILES
  local place
  place=$(fact hostKey)
  if [ -n "$place" ]; then
    find_host_key
    [ -f "$host_key" ] ||
      fail "$host_key is not there, and $name reads its secrets with it" "make it with \`nix run .#init\`, or name it with --host-key"
    run install -D -m 600 /dev/null "$files$place"
    run_into "$files$place" "${key_reader[@]}"
    [ "$dry_run" = yes ] || grep -q '^AGE-SECRET-KEY-' "$files$place" ||
      fail "$host_key is no age key" "name the one that \`nix run .#init\` made with --host-key"
  fi
  if [ "$(fact encrypted)" = true ]; then
    [ -n "$disk_key" ] || fail "the disks of $name are encrypted" "name a file with their passphrase with --disk-key"
    [ -s "$disk_key" ] || fail "$disk_key holds no passphrase" "name a file with that of the disks of $name with --disk-key"
    extra+=(--disk-encryption-keys /tmp/disk.key "$disk_key")
  fi
}

no_token() {
  fail "there is no token with which $name could enroll" \
    "name a file with --token, made by \`hatrack token create $name --class $(fact class)\` where the cluster is reached; $outcome"
}

# Whether there can be a token. None is made before the answer: it ends those that are under way to the machine.
judge_token() {
  if [ -z "$(fact tokenFile)" ]; then
    return
  elif [ -n "$token" ]; then
    [ -s "$token" ] || fail "$token holds no token" "name a file that \`hatrack token create\` made with --token"
  elif [ "$dry_run" = yes ]; then
    run hatrack token list
  elif ! hatrack token list >/dev/null 2>"$work/answer"; then
    cat "$work/answer" >&2
    no_token
  fi
}

# The token goes along with the key: without it the machine would not be let in. One that was made for an attempt before is worth
# nothing from now on.
collect_token() {
  local place
  place=$(fact tokenFile)
  [ -n "$place" ] || return 0
  run install -D -m 600 /dev/null "$files$place"
  if [ -n "$token" ]; then
    run_into "$files$place" cat "$token"
  else
    run_into "$files$place" hatrack token create "$name" --class "$(fact class)" --replace || no_token
  fi
}

not_started() {
  fail "the installer did not start on $target" "correct what nixos-anywhere says above; nothing was erased, but the machine may be restarting: look at its screen"
}

anywhere() {
  run nixos-anywhere "${anywhere_options[@]}" --store-paths "$disko_script" "$toplevel" "$@"
}

# What the cluster says of the node. The founder is asked itself, where it is installed: before it there is no cluster.
ask() {
  if [ "$(fact founds)" = true ]; then
    ssh "${ssh_options[@]}" -o ConnectTimeout=10 "$installed" k3s kubectl get clusternodes.society.zeta.io "$name" "$@"
  else
    hatrack nodes "$name" "$@"
  fi
}

# Whoever cannot be asked then is not asked after the disks were erased.
judge_cluster() {
  if [ "$wait_seconds" = 0 ] || [ "$(fact founds)" = true ]; then return; fi
  if [ "$dry_run" = yes ]; then
    run hatrack nodes "$name" -o json
    return
  fi
  local status=0 server
  server=$(fact founderAddress)
  hatrack nodes "$name" -o json >/dev/null 2>"$work/answer" || status=$?
  [ "$status" = 2 ] || return 0
  cat "$work/answer" >&2
  fail "nobody could say whether $name is Ready" \
    "do what is said above${server:+ (the founder has your access: $(access_of "ssh root@$server" "$server") && export KUBECONFIG=\$PWD/kubeconfig)}, or install with --wait 0; $outcome"
}

# in_url ADDRESS
in_url() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac }

await_ready() {
  [ "$wait_seconds" -gt 0 ] || return 0
  if [ "$dry_run" = yes ]; then
    # shellcheck disable=SC2032 # the function is meant
    if [ "$(fact founds)" = true ]; then run ssh "${ssh_options[@]}" "$installed" k3s kubectl get clusternodes.society.zeta.io "$name"; fi
    return
  fi
  local deadline=$((SECONDS + wait_seconds)) node
  while [ $SECONDS -lt $deadline ]; do
    node=$(ask -o json 2>"$work/answer") || node='{}'
    if jq --exit-status '[., .items[]? | .status?.conditions[]? | select(.type == "Ready" and .status == "True")] | any' <<<"$node" >/dev/null; then
      ask
      [ "$(fact founds)" != true ] ||
        say "your access to the cluster: $(access_of "$(as_typed "$installed")" "${installed#*@}")"
      return
    fi
    sleep $((wait_seconds < 60 ? 1 : 5))
  done
  say "error: $name was installed, but is not Ready after $wait_seconds seconds"
  cat "$work/answer" >&2
  say "hint: $(first_failure)"
  exit 1
}

# Which step of a new machine to look at, and how.
first_failure() {
  local there=(ssh "${ssh_options[@]}" -o ConnectTimeout=10 "$installed") unit answer
  if ! "${there[@]}" true 2>"$work/answer"; then
    echo "it does not answer on ssh ($(tail -n 1 "$work/answer")): look at its screen"
    return
  fi
  for unit in k3s hatrack-agent; do
    # Not every machine has both.
    "${there[@]}" systemctl cat "$unit.service" >/dev/null 2>&1 || continue
    "${there[@]}" systemctl is-active --quiet "$unit.service" || {
      echo "$unit does not run there: $(as_typed "$installed") journalctl --boot --unit $unit"
      return
    }
  done
  answer=$("${there[@]}" curl --silent http://127.0.0.1:9470/readyz) || answer="no answer"
  echo "its agent says: $answer; see $(as_typed "$installed") journalctl --boot --unit hatrack-agent"
}

# The installer's kernel has drivers for everything.
report_from_the_installer() {
  local runs
  runs=$(node_that_runs)
  [ -z "$runs" ] || refuse "no report of $name is made on $target" "$runs"
  run nixos-anywhere "${anywhere_options[@]}" --flake "$flake#$name" --phases kexec "$target" || not_started
  be_in_the_installer
}

# A Raspberry Pi has no installer: it tells of itself as it runs.
make_report() {
  [ -n "$host_folder" ] || fail "$flake is no folder to write a report into" "name a copy of it on this machine with --flake"
  look "$target"
  [ "$(fact install)" = sd-image ] || report_from_the_installer
  # Images of NixOS are installers without the program.
  local report='command -v nixos-facter >/dev/null || exec nix --extra-experimental-features "nix-command flakes" run nixpkgs#nixos-facter; exec nixos-facter'
  if [ "$dry_run" = yes ]; then
    run ssh "${ssh_options[@]}" "$installed" "$report"
    return
  fi
  # shellcheck disable=SC2029 # it has nothing to expand
  ssh "${ssh_options[@]}" "$installed" "$report" >"$work/report" || fail "$installed makes no report" "$outcome"
  install -D -m 644 "$work/report" "$host_folder/facter.json"
  local next="install now"
  [ "$(fact install)" != sd-image ] || next="switch to what it changes"
  say "made $host_folder/facter.json: \`git add\` it, and $next"
  [ "$(fact report)" = true ] ||
    say "hint: $name does not read it yet; its configuration needs hardware.facter.reportPath = ./facter.json;"
}

main() {
  # The flake was perhaps run with these on the command line alone.
  export NIX_CONFIG=${NIX_CONFIG-}$'\n''extra-experimental-features = nix-command flakes'
  parse_arguments "$@"
  read_facts
  if [ "$(fact install)" = sd-image ] && [ "$report" = no ]; then
    explain_card
    return
  fi
  [ -n "$target" ] || fail "the address of the machine is needed" "nix run .#install -- $name root@ADDRESS"
  prepare_ssh

  installed=root@${target#*@}
  if [ "$report" = yes ]; then
    make_report
    return
  fi
  step 1 "Looking at $target"
  look "$target"
  judge "$target"
  show_disks
  warn_of_tpm

  judge_cluster
  collect_files
  judge_token

  step 2 "Building $name"
  build
  confirm
  collect_token

  step 3 "Starting the installer on $target"
  anywhere --phases kexec "$target" || not_started
  be_in_the_installer

  step 4 "Looking again, from the installer"
  if [ "$dry_run" = no ]; then
    look "$installed"
    judge "$installed"
    judge_tpm "$installed"
  else
    print_look "$installed"
  fi

  step 5 "Erasing the disks and installing"
  # With the key of the host that its owner knows already.
  [ -z "$(fact hostKey)$(fact tokenFile)" ] || extra+=(--extra-files "$files")
  anywhere --phases disko,install,reboot --copy-host-keys "${extra[@]}" "$installed" ||
    fail "$name was not installed" "correct what is said above and install it again: its disks may be erased, and the machine is in the installer unless it has restarted"
  use_port_after

  step 6 "Waiting until $name is Ready"
  await_ready
}

[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
