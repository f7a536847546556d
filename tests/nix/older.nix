# What releases before the pinned one lack, so that the rest can be evaluated on them. It proves nothing about what it adds.
tree:
let
  inherit (tree) lib;
  has = file: builtins.pathExists (tree.outPath + "/${file}");

  # Sorted by the module that brings the option in the pinned release.
  bridges = [
    {
      present = has "nixos/modules/hardware/facter";
      options.hardware.facter.reportPath = path;
    }
    {
      present = has "nixos/modules/hardware/graphics.nix";
      options.hardware.graphics.enable = switch;
    }
    {
      present = lib.versionAtLeast lib.trivial.release "24.11";
      options.services.k3s.manifests = anything;
    }
    {
      present = has "nixos/modules/services/cluster/rancher";
      options.services.k3s.agentToken = text;
    }
    {
      present = has "nixos/modules/system/activation/pre-switch-check.nix";
      options.system.preSwitchChecks = anything;
    }
    {
      present = lib.versionAtLeast lib.trivial.release "25.05";
      options.image.baseName = anything;
    }
    {
      present = lib.versionAtLeast lib.trivial.release "25.11";
      options.systemd.settings.Manager = anything;
    }
  ];
  path = lib.mkOption {
    type = lib.types.nullOr lib.types.path;
    default = null;
  };
  switch = lib.mkOption {
    type = lib.types.bool;
    default = false;
  };
  text = lib.mkOption {
    type = lib.types.str;
    default = "";
  };
  anything = lib.mkOption {
    type = lib.types.anything;
    default = { };
  };

  missing = map (bridge: { inherit (bridge) options; }) (
    lib.filter (bridge: !bridge.present) bridges
  );
  packages = _final: prev: {
    testers = prev.testers // {
      runNixOSTest =
        test:
        prev.testers.runNixOSTest {
          imports = [ test ];
          defaults.imports = missing;
        };
    };
    linuxPackages = prev.linuxPackages.extend (
      _: kernel: {
        nvidiaPackages = kernel.nvidiaPackages.extend (
          _: drivers: { legacy_580 = drivers.legacy_580 or drivers.legacy_535; }
        );
      }
    );
    nixos-rebuild-ng = prev.nixos-rebuild-ng or prev.nixos-rebuild;
    ubootRaspberryPiAarch64 = prev.ubootRaspberryPiAarch64 or prev.ubootRaspberryPi4_64bit;
    buildGo125Module = prev.buildGo125Module or prev.buildGoModule;
    fetchFromGitHub = prev.fetchFromGitHub // {
      __functor =
        _: arguments:
        prev.fetchFromGitHub (
          removeAttrs arguments [ "tag" ]
          // lib.optionalAttrs (arguments ? tag) { rev = "refs/tags/${arguments.tag}"; }
        );
    };
  };
in
tree
// {
  # Checks that no bridge reaches, as the disk tests of disko need the test driver of a later release; and what tests/nix/run
  # evaluates by itself.
  isBeyond =
    name:
    lib.elem name [
      "evaluated"
      "texts"
    ]
    || (lib.versionOlder lib.trivial.release "25.11" && lib.hasPrefix "disks-" name);

  lib = lib // {
    nixosSystem =
      arguments:
      lib.nixosSystem (
        arguments
        // {
          modules = arguments.modules ++ missing ++ [ { nixpkgs.overlays = [ packages ]; } ];
        }
      );
  };
  legacyPackages = lib.mapAttrs (_: pkgs: pkgs.extend packages) tree.legacyPackages;
}
