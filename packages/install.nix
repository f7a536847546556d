# The installer with everything that it calls.
{
  coreutils,
  gawk,
  gnugrep,
  gnused,
  hatrack,
  jq,
  lib,
  makeWrapper,
  nix,
  nixos-anywhere,
  openssh,
  runCommand,
  shellcheck,
  sops,
}:
runCommand "hatrack-install"
  {
    nativeBuildInputs = [
      makeWrapper
      shellcheck
    ];
    meta = {
      description = "Installs a host of a hatrack flake over ssh";
      license = lib.licenses.asl20;
      mainProgram = "hatrack-install";
    };
  }
  ''
    shellcheck ${./install.sh} ${./look.sh}
    install -D -m 755 ${./install.sh} $out/libexec/hatrack/install.sh
    install -D -m 644 ${./look.sh} $out/libexec/hatrack/look.sh
    # The owner's ssh comes first where there is one: it knows the owner's agents and hardware keys.
    makeWrapper $out/libexec/hatrack/install.sh $out/bin/hatrack-install \
      --set HATRACK_LIBEXEC $out/libexec/hatrack \
      --prefix PATH : ${
        lib.makeBinPath [
          coreutils
          gawk
          gnugrep
          gnused
          hatrack
          jq
          nix
          nixos-anywhere
          sops
        ]
      } \
      --suffix PATH : ${lib.makeBinPath [ openssh ]}
  ''
