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

  # disko's own test of each host. It hangs on aarch64.
  disks = lib.optionalAttrs (system == "x86_64-linux") (
    lib.mapAttrs' (name: host: lib.nameValuePair "disks-${name}" host.config.system.build.installTest) (
      lib.filterAttrs (_: host: host.config.disko.devices.disk != { }) here
    )
    // import ./disks.nix { inherit inputs pkgs; }
  );

  # Virtual machines without KVM take longer than anybody waits, and hosted aarch64 runners have none.
  machines = lib.optionalAttrs (system == "x86_64-linux") (
    lib.mapAttrs'
      (file: _: {
        name = "machines-${lib.removeSuffix ".nix" file}";
        value = pkgs.testers.runNixOSTest (import (./machines + "/${file}") { inherit (inputs) self; });
      })
      (
        lib.filterAttrs (file: _: lib.hasSuffix ".nix" file && file != "node.nix") (
          builtins.readDir ./machines
        )
      )
  );

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

  # Of the crates whose tests start no server.
  tests = pkgs.hatrack-agent.overrideAttrs (_: {
    pname = "hatrack-tests";
    buildPhase = ''
      runHook preBuild
      cargo test --offline ${
        lib.concatMapStringsSep " " (crate: "--package hatrack-${crate}") [
          "api"
          "discover"
          "hats"
          "service"
        ]
      }
      runHook postBuild
    '';
    doCheck = false;
    installPhase = "touch $out";
    dontFixup = true;
  });

  # What is compared at evaluation.
  faults = lib.concatLists [
    (import ./refusals.nix inputs.self).wrong
    (import ./sources.nix inputs.self)
    (import ./options.nix inputs.self)
    (import ./template.nix inputs.self)
  ];
  evaluated = lib.optionalAttrs (system == "x86_64-linux") {
    evaluated =
      if faults == [ ] then
        pkgs.runCommand "hatrack-evaluated" { } "touch $out"
      else
        throw "the flake is not as it should be:\n${lib.concatLines faults}";
  };

  # The texts of the hosts are those of ./texts. Nothing that they name is built for it.
  texts = lib.optionalAttrs (system == "x86_64-linux") {
    texts =
      pkgs.runCommand "hatrack-texts"
        {
          nativeBuildInputs = [ pkgs.jq ];
          texts = builtins.unsafeDiscardStringContext (builtins.toJSON (import ./texts.nix inputs.self));
          passAsFile = [ "texts" ];
        }
        ''
          bash ${./write-texts} "$textsPath" texts
          diff --recursive --unified ${./texts} texts
          touch $out
        '';
  };

  # What is known of the crates that Cargo.lock names: `nix flake update advisory-db` asks for what is known today.
  advisories = pkgs.runCommand "hatrack-advisories" { nativeBuildInputs = [ pkgs.cargo-audit ]; } ''
    cargo-audit audit --no-fetch --stale --deny warnings --db ${inputs.advisory-db} --file ${../../Cargo.lock}
    touch $out
  '';

  dependencies = pkgs.hatrack-agent.overrideAttrs (previous: {
    pname = "hatrack-dependencies";
    nativeBuildInputs = previous.nativeBuildInputs ++ [ pkgs.cargo-deny ];
    buildPhase = "bash tests/dependencies";
    doCheck = false;
    installPhase = "touch $out";
    dontFixup = true;
  });
  # What a nixpkgs older than the pinned one has no means for.
  isBeyond = inputs.nixpkgs.isBeyond or (_: false);
in
lib.filterAttrs (name: _: !isBeyond name) (
  hosts
  // images
  // disks
  // machines
  // evaluated
  // texts
  // {
    inherit
      advisories
      clippy
      dependencies
      formatting
      tests
      ;
    inherit (pkgs)
      hatrack
      hatrack-agent
      hatrack-init
      hatrack-install
      hatrack-operator
      ;
    nodes = inputs.self.packages.${system}.nodes;
    cluster-shell = inputs.self.devShells.${system}.cluster;
    shell = inputs.self.devShells.${system}.default;
  }
)
