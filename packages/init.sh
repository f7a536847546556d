#!/usr/bin/env bash
# Makes what only this cluster has: keys and secrets of its hosts, encrypted for those who may read them. What is there
# stays as it is, so it is run again whenever a host or a person was added.
#
#   hatrack-init [--trust-domain NAME]    SPIFFE ids of the cluster are spiffe://NAME/... [default: the name of the folder]
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "error: $1"
  say "hint: $2"
  exit 2
}

domain=$(basename "$PWD" | tr '[:upper:]' '[:lower:]' | tr --complement --delete 'a-z0-9._\n-')
case $#,${1-} in
0,) ;;
2,--trust-domain) domain=$2 ;;
*) fail "it takes nothing but --trust-domain NAME" "see \`hatrack init --help\`" ;;
esac
[[ $domain =~ ^[a-z0-9._-]+$ ]] ||
  fail "\`$domain\` cannot be a trust domain" "use lower-case letters, digits, dots and dashes: --trust-domain home.example"

[ -d hosts ] || fail "there is no folder hosts here" "run this in the repository of your cluster; \`nix flake init\` makes one"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A cluster drops what it does not know without a word, and a limit that is misspelt would limit nothing.
judge_policy() {
  local folder=$work/cluster
  mkdir -p "$folder/hatpolicies"
  cp k8s/hats/policy.yaml "$folder/hatpolicies/default.yaml"
  if ! hatrack hats --cluster "$folder" >/dev/null 2>"$work/said"; then
    sed "s#$folder/hatpolicies/default.yaml#k8s/hats/policy.yaml#" "$work/said" >&2
    exit 2
  fi
}
[ ! -f k8s/hats/policy.yaml ] || judge_policy

if [ $# -gt 0 ] && [ -f k8s/hats/policy.yaml ] && ! grep --quiet --line-regexp "  trustDomain: $domain" k8s/hats/policy.yaml; then
  fail "k8s/hats/policy.yaml is there, and its trust domain is not $domain" "change it there, before the first hat is worn: it is part of every identity"
fi

# The flake was perhaps run with these on the command line alone.
export NIX_CONFIG=${NIX_CONFIG-}$'\n''extra-experimental-features = nix-command flakes'

# Each host says itself which secrets it reads, and from which file: {"gpu-1": {"file": ".../secrets.yaml", "names": [...]}}
hosts=$(nix eval --json .#nixosConfigurations --apply 'builtins.mapAttrs (_: host: host.config.hatrack.secrets.reads)') ||
  fail "a host of the flake does not evaluate, and nobody else can say which secrets it reads" \
    "correct what is said above, or take the host out of flake.nix until it is filled in; \`git add\` what is new. Nothing was written"
mapfile -t names < <(jq --raw-output 'keys[]' <<<"$hosts")
[ ${#names[@]} -gt 0 ] || fail "flake.nix has no host" "describe each machine there first; nothing was written"

# Who administers the cluster, one public key in each line, and perhaps a comment. People are added and removed there.
read_owners() {
  local line number=0
  recipients=()
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    line=${line%%#*}
    line=${line//[[:space:]]/}
    [ -n "$line" ] || continue
    if [[ $line != age1* ]] || ! age --encrypt --recipient "$line" </dev/null >/dev/null 2>&1; then
      fail "line $number of hosts/owners.pub, ${line:0:16}…, is no public age key" \
        "put a whole one there, as \`age-keygen -y\` prints it (age1…), or # before what is none; nothing was written"
    fi
    recipients+=("$line")
  done <hosts/owners.pub
}
[ ! -f hosts/owners.pub ] || read_owners

owner_key=${SOPS_AGE_KEY_FILE:-${XDG_CONFIG_HOME:-$HOME/.config}/sops/age/keys.txt}
if [ ! -f "$owner_key" ]; then
  mkdir -p "$(dirname "$owner_key")"
  (umask 077 && age-keygen --output "$owner_key" 2>/dev/null)
  say "made your own key, $owner_key: keep a copy of it apart from this machine, for without it the secrets are lost"
fi
owner=$(age-keygen -y "$owner_key" | head -n 1)
export SOPS_AGE_KEY_FILE=$owner_key

if [ ! -f hosts/owners.pub ]; then
  echo "$owner" >hosts/owners.pub
  read_owners
fi
[[ " ${recipients[*]} " = *" $owner "* ]] ||
  fail "your key $owner is none of hosts/owners.pub" "put your copy of the old one back at $owner_key; or have this one added there by somebody who is in it, who then runs this; before that you cannot read the secrets"
owners=$(IFS=, && echo "${recipients[*]}")

# encrypt FILE RECIPIENTS TYPE [TYPE-OF-FILE]: what comes in, as FILE.
encrypt() {
  cat >"$work/plain"
  # Read from a file of its own, so that no .sops.yaml decides about recipients here.
  sops --config /dev/null encrypt --age "$2" --input-type "$3" --output-type "${4:-$3}" "$work/plain" >"$work/encrypted"
  cp "$work/encrypted" "$1"
  rm "$work/plain"
}

decrypt() { sops decrypt --output-type json "$1"; }

# Encrypts a file that is there for those who may read it, as .sops.yaml says. Where these are others than before it gets a new data
# key: with the old one, which they have seen, those who are no longer among them could read what comes into the file later.
share() {
  cp "$1" "$work/before"
  if ! { sops updatekeys --yes "$1" && { cmp "$work/before" "$1" || sops rotate --in-place "$1"; }; } >"$work/said" 2>&1; then
    cat "$work/said" >&2
    fail "$1 cannot be encrypted for those who may read it now" "do what is said above, then run this again"
  fi
}

# The file that a host reads its secrets from: own, shared (as clusters of the first releases have it), or other.
file_of() {
  case $(jq --raw-output --arg name "$1" '.[$name].file // ""' <<<"$hosts") in
  */hosts/"$1"/secrets.yaml) echo own ;;
  */hosts/secrets.yaml) echo shared ;;
  *) echo other ;;
  esac
}

reads_nothing() { jq --exit-status --arg name "$1" '.[$name].names == []' <<<"$hosts" >/dev/null; }

random_token() { head --bytes 32 /dev/urandom | od --address-radix n --format x1 | tr --delete ' \n'; }

# The key of a host exists before the host: its secrets are encrypted for it, and installing puts it there.
readers=()
for name in "${names[@]}"; do
  folder=hosts/$name
  mkdir -p "$folder"
  if [ ! -f "$folder/host.pub" ]; then
    age-keygen --output "$work/key" 2>/dev/null
    encrypt "$folder/host.age" "$owners" binary <"$work/key"
    age-keygen -y "$work/key" >"$folder/host.pub"
    rm "$work/key"
    say "made $folder/host.age"
  fi
  if [ "$(file_of "$name")" = shared ] && ! reads_nothing "$name"; then readers+=("$name"); fi
done

# What all hosts draw from is the owners' alone; each host has a file of its own with what it needs of that.
everything_for=$owners$(for name in "${readers[@]}"; do printf ',%s' "$(cat "hosts/$name/host.pub")"; done)
{
  echo "# Who reads which secret; made by \`nix run .#init\`."
  echo "creation_rules:"
  echo "  - path_regex: ^hosts/[^/]+/host\\.age\$"
  echo "    age: $owners"
  echo "  - path_regex: ^hosts/secrets\\.yaml\$"
  echo "    age: $everything_for"
  for public in hosts/*/host.pub; do
    folder=${public%/host.pub}
    echo "  - path_regex: ^$folder/secrets\\.yaml\$"
    echo "    age: $owners,$(cat "$public")"
  done
} >.sops.yaml

if [ ! -f hosts/secrets.yaml ]; then
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$work/adb" 2>/dev/null
  random_token >"$work/token"
  random_token >"$work/agent-token"
  # What hosts have in files of their own already is the cluster's.
  for name in "${names[@]}"; do
    if [ "$(file_of "$name")" = own ] && [ -f "hosts/$name/secrets.yaml" ]; then decrypt "hosts/$name/secrets.yaml" >>"$work/found"; fi
  done
  touch "$work/found"
  jq --slurp --rawfile token "$work/token" --rawfile agent "$work/agent-token" --rawfile adb "$work/adb" '
    {"k3s-token": $token, "k3s-agent-token": $agent, "adb-key": $adb} as $made
    | (add // {} | with_entries(select(.key | in($made)))) as $found
    | ($made | if $found | has("k3s-token") then del(."k3s-agent-token") else . end) + $found
    ' "$work/found" | encrypt hosts/secrets.yaml "$everything_for" json yaml
  say "made hosts/secrets.yaml with the two join tokens and the key that phones are to trust: you read it, and no host"
fi
decrypt hosts/secrets.yaml >"$work/all"
# A cluster that runs knows one token for servers and agents. Another one takes more than a file (docs/day-2.md of hatrack).
if jq --exit-status 'has("k3s-token") and (has("k3s-agent-token") | not)' "$work/all" >/dev/null; then
  sops set hosts/secrets.yaml '["k3s-agent-token"]' "$(jq '."k3s-token"' "$work/all")"
  decrypt hosts/secrets.yaml >"$work/all"
  say "put k3s-agent-token into hosts/secrets.yaml, the same as k3s-token as long as you do not rotate it"
fi

# The file of a host: what it reads of hosts/secrets.yaml, and what is there for it alone, as its token to enroll with is.
for name in "${names[@]}"; do
  [ "$(file_of "$name")" = own ] || continue
  file=hosts/$name/secrets.yaml
  if [ -f "$file" ]; then decrypt "$file" >"$work/own"; else echo '{}' >"$work/own"; fi
  jq --slurp --argjson hosts "$hosts" --arg name "$name" '
    (.[0] | with_entries(select(.key | startswith("enrollment-") | not))) as $all | .[1] as $own
    | ($own | with_entries(select(.key as $key | $all | has($key) | not)))
      + ($all | with_entries(select(.key as $key | $hosts[$name].names | index([$key]))))
    ' "$work/all" "$work/own" >"$work/new"
  jq --slurp --exit-status '.[0] == .[1]' "$work/own" "$work/new" >/dev/null && continue
  encrypt "$file" "$owners,$(cat "hosts/$name/host.pub")" json yaml <"$work/new"
  say "wrote $file: $(jq --raw-output 'keys | join(", ")' "$work/new")"
done

for file in hosts/secrets.yaml hosts/*/host.age hosts/*/secrets.yaml; do
  [ ! -f "$file" ] || share "$file"
done

# Who may do what with hats. People are named here as well; a service account says by itself who it is.
if [ ! -f k8s/hats/policy.yaml ]; then
  mkdir -p k8s/hats
  cat >k8s/hats/policy.yaml <<POLICY
# The limits of this cluster. Absent ones are the defaults: kubectl explain hatpolicy.spec
apiVersion: society.zeta.io/v1alpha1
kind: HatPolicy
metadata:
  name: default
spec:
  trustDomain: $domain
POLICY
  say "made k8s/hats/policy.yaml with the trust domain $domain: it is part of every identity, so change it now or never"
fi

for public in hosts/*/host.pub; do
  name=$(basename "$(dirname "$public")")
  [[ " ${names[*]} " = *" $name "* ]] ||
    say "hosts/$name is of no host of flake.nix: \`git add\` what is new; if the machine is gone, remove the folder and rotate what it has read"
done
if [ ${#readers[@]} -gt 0 ]; then
  say "warning: ${readers[*]} can read all of hosts/secrets.yaml, the servers' join token too"
  # shellcheck disable=SC2016 # it is Nix
  say 'hint: set hatrack.secrets.file = ./${config.networking.hostName}/secrets.yaml in hosts/cluster.nix, run this again, switch all hosts, and rotate the join tokens'
fi
say "a machine that is no member of Kubernetes gets its token from \`nix run .#install\`, once the founder runs"
say "commit what is new: every secret in it is encrypted"
say "keep safe: $owner_key, and the tokens k3s-token and k3s-agent-token of hosts/secrets.yaml beside your snapshots of etcd, which are of no use without them"
