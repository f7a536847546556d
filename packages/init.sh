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
owner_key=${SOPS_AGE_KEY_FILE:-${XDG_CONFIG_HOME:-$HOME/.config}/sops/age/keys.txt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -f "$owner_key" ]; then
  mkdir -p "$(dirname "$owner_key")"
  (umask 077 && age-keygen --output "$owner_key" 2>/dev/null)
  say "made your own key, $owner_key: keep a copy of it apart from this machine, for without it the secrets are lost"
fi
owner=$(age-keygen -y "$owner_key" | head -n 1)
export SOPS_AGE_KEY_FILE=$owner_key

# Who administers the cluster, one public key in each line. People are added and removed there.
[ -f hosts/owners.pub ] || echo "$owner" >hosts/owners.pub
grep --quiet --line-regexp --fixed-strings -- "$owner" hosts/owners.pub ||
  fail "your key $owner is none of hosts/owners.pub" "have it added there by somebody who is in it, who then runs this; before that you cannot read the secrets"
owners=$(paste --serial --delimiters , hosts/owners.pub)

# encrypt FILE RECIPIENTS: what comes in, as FILE.
encrypt() {
  cat >"$work/plain"
  # Read from a file of its own, so that no .sops.yaml decides about recipients here.
  sops --config /dev/null encrypt --age "$2" --input-type "$3" --output-type "$3" "$work/plain" >"$1"
  rm "$work/plain"
}

# The key of a host exists before the host: its secrets are encrypted for it, and installing puts it there.
host_keys=()
for folder in hosts/*/; do
  [ -d "$folder" ] || fail "there is no host below hosts" "make a folder for each machine first"
  folder=${folder%/}
  if [ ! -f "$folder/host.pub" ]; then
    age-keygen --output "$work/key" 2>/dev/null
    encrypt "$folder/host.age" "$owners" binary <"$work/key"
    age-keygen -y "$work/key" >"$folder/host.pub"
    rm "$work/key"
    say "made $folder/host.age"
  fi
  host_keys+=("$(cat "$folder/host.pub")")
done
everybody=$owners$(printf ',%s' "${host_keys[@]}")

{
  echo "# Who reads which secret; made by \`nix run .#init\`."
  echo "creation_rules:"
  echo "  - path_regex: ^hosts/[^/]+/host\\.age\$"
  echo "    age: $owners"
  echo "  - path_regex: ^hosts/secrets\\.yaml\$"
  echo "    age: $everybody"
} >.sops.yaml

for key in hosts/*/host.age; do sops updatekeys --yes "$key" >&2; done
if [ -f hosts/secrets.yaml ]; then
  sops updatekeys --yes hosts/secrets.yaml >&2
else
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$work/adb" 2>/dev/null
  {
    echo "k3s-token: $(head --bytes 32 /dev/urandom | od --address-radix n --format x1 | tr --delete ' \n')"
    echo "adb-key: |"
    sed 's/^/  /' "$work/adb"
  } | encrypt hosts/secrets.yaml "$everybody" yaml
  say "made hosts/secrets.yaml with the join token and the key that phones are to trust"
fi

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

say "a machine that is no member of Kubernetes gets its token from \`nix run .#install\`, once the founder runs"
say "commit what is new: every secret in it is encrypted"
say "keep safe: $owner_key, and the token k3s-token of hosts/secrets.yaml beside your snapshots of etcd, which are of no use without it"
