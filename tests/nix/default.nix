# `checks`: everything that the flake exports is built, and every machine whole.
{
  inputs,
  pkgs,
  formatting,
}:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;

  here = lib.filterAttrs (
    _: host: host.pkgs.stdenv.hostPlatform.system == system
  ) inputs.self.nixosConfigurations;
  hosts = lib.mapAttrs' (
    name: host: lib.nameValuePair "host-${name}" host.config.system.build.toplevel
  ) here;
  images = lib.mapAttrs' (
    name: host: lib.nameValuePair "image-${name}" host.config.system.build.sdImage
  ) (lib.filterAttrs (_: host: host.config.hatrack.host.install == "sd-image") here);

  clippy = pkgs.hatrack-agent.overrideAttrs (previous: {
    pname = "hatrack-clippy";
    nativeBuildInputs = previous.nativeBuildInputs ++ [ pkgs.clippy ];
    buildPhase = ''
      runHook preBuild
      cargo clippy --offline --workspace --all-targets -- --deny warnings
      runHook postBuild
    '';
    doCheck = false;
    installPhase = "touch $out";
    dontFixup = true;
  });
in
hosts
// images
// {
  inherit clippy formatting;
  inherit (pkgs)
    hatrack
    hatrack-agent
    hatrack-init
    hatrack-install
    ;
  shell = inputs.self.devShells.${system}.default;
}
