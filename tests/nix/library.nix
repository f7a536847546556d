# The modules on nixpkgs' library alone, where it is newer than any whole tree at hand. Types, options, conditions, assertions
# and disko's layouts are real; NixOS below them is options without an effect. For each layout there is the script of disko.
#
#   nix eval --impure --json --file tests/nix/library.nix --argstr library ~/nixpkgs.lib --argstr inputs ~/inputs refusals
#
# https://github.com/nix-community/nixpkgs.lib holds the library of each revision of nixpkgs.
{ library, inputs }:
let
  call =
    path: arguments:
    let
      self = (import (path + "/flake.nix")).outputs (arguments // { inherit self; }) // {
        inputs = arguments;
        outPath = path;
      };
    in
    self;
  lib = import (/. + library + "/lib");
  inherit (lib) mkOption types;

  option = type: default: mkOption { inherit type default; };
  open =
    options:
    types.submodule {
      inherit options;
      config._module.check = false;
    };
  named = options: option (types.attrsOf (open options)) { };

  # What is read of NixOS by a module of ours; what is only set goes nowhere.
  nixos = {
    options = {
      assertions = option (types.listOf types.raw) [ ];
      boot.loader.systemd-boot.enable = option types.bool false;
      environment.etc = named { };
      hardware.facter.reportPath = option (types.nullOr types.path) null;
      warnings = option (types.listOf types.str) [ ];
      fileSystems = option (types.lazyAttrsOf types.raw) { };
      networking.hostId = option (types.nullOr types.str) null;
      networking.hostName = option types.str "nixos";
      nixpkgs.hostPlatform = mkOption {
        type = types.raw;
        apply = system: { inherit system; };
      };
      services.k3s = option (open {
        agentToken = option types.str "";
        clusterInit = option types.bool false;
        enable = option types.bool false;
        extraFlags = option types.str "";
        manifests = option (types.lazyAttrsOf types.raw) { };
        role = option types.str "server";
        serverAddr = option types.str "";
        token = option types.str "";
      }) { };
      sops.secrets = named { path = option types.str "/run/secrets/name"; };
      system.build = option (types.lazyAttrsOf types.raw) { };
      swapDevices = option (types.listOf types.raw) [ ];
      system.stateVersion = option types.str "26.05";
      systemd.services = named {
        partOf = option (types.listOf types.str) [ ];
        serviceConfig = option (types.lazyAttrsOf types.raw) { };
        wantedBy = option (types.listOf types.str) [ ];
      };
    };
    config._module.check = false;
    config._module.args.pkgs.formats.toml = _: {
      type = types.lazyAttrsOf types.anything;
      generate = name: _: name;
    };
  };

  nixpkgs.lib = lib // {
    nixosSystem =
      { modules }:
      lib.evalModules {
        class = "nixos";
        modules = modules ++ [ nixos ];
        specialArgs.modulesPath = "/no/modules";
      };
  };
  flake = import ../../flake.nix;
  arguments = {
    inherit nixpkgs;
    disko = call (/. + inputs + "/disko") { inherit nixpkgs; };
    sops-nix.nixosModules.sops = { };
  };
  self =
    let
      outputs = flake.outputs (arguments // { inherit self; });
    in
    outputs
    // {
      inputs = arguments;
      # It imports a file of NixOS.
      nixosModules = outputs.nixosModules // {
        pi-image = { };
      };
    };

  layouts = import ./layouts.nix { inherit (self.lib) disks; };
in
{
  inherit (lib.trivial) release;
  refusals = import ./refusals.nix self;
  disks = lib.concatMapAttrs (
    name: layout:
    let
      host = self.lib.mkHost {
        name = "layout";
        class = "worker";
        system = "x86_64-linux";
        modules = [ layout ];
      };
      inherit (host.config.disko.devices) _create _mount;
    in
    {
      "${name}/format.sh" = "#!/usr/bin/env bash\n${_create}";
      "${name}/mount.sh" = "#!/usr/bin/env bash\n${_mount}";
    }
  ) layouts;
}
