# Everything that `make test` and a cluster owner need.
{
  age,
  cargo,
  clippy,
  go,
  hatrack,
  hatrack-init,
  kubectl,
  mkShell,
  nixos-anywhere,
  rust-analyzer,
  rustc,
  rustfmt,
  shellcheck,
  sops,
}:
mkShell {
  packages = [
    age
    cargo
    clippy
    go
    hatrack
    hatrack-init
    kubectl
    nixos-anywhere
    rust-analyzer
    rustc
    rustfmt
    shellcheck
    sops
  ];
}
