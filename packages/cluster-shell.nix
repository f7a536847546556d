# What a cluster owner needs.
{
  age,
  hatrack,
  hatrack-init,
  hatrack-install,
  jq,
  kubectl,
  mkShellNoCC,
  nixos-rebuild-ng,
  openssl,
  sops,
  zstd,
}:
mkShellNoCC {
  packages = [
    age
    hatrack
    hatrack-init
    hatrack-install
    jq
    kubectl
    nixos-rebuild-ng
    openssl
    sops
    zstd
  ];
}
