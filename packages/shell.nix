# Everything that `make test` needs, and `hatrack` itself.
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
