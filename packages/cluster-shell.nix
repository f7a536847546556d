# What a cluster owner needs.
{
  age,
  hatrack,
  hatrack-init,
  hatrack-install,
  kubectl,
  mkShellNoCC,
  nixos-rebuild-ng,
  sops,
}:
mkShellNoCC {
  packages = [
    age
    hatrack
    hatrack-init
    hatrack-install
    kubectl
    nixos-rebuild-ng
    sops
  ];
}
