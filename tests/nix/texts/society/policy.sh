install -D -m 644 /nix/store/policy.yaml k8s/hatpolicies/default.yaml
hatrack hats --cluster k8s >/dev/null || {
  echo "hatrack.society.policy of alone is refused for what is said above: correct that file" >&2
  exit 1
}
cp /nix/store/policy.yaml $out
