# Hailo accelerators. nixpkgs has neither the driver nor the firmware, which comes under a licence of its own.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.hailo;

  # The two families have drivers that exclude each other (branches hailo8 and master of hailort-drivers).
  module = if cfg.generation == "10h" then "hailo1x_pci" else "hailo_pci";
  series = if cfg.generation == "10h" then "5" else "4";
  driver = cfg.driver config.boot.kernelPackages;
  major = lib.versions.major (lib.getVersion driver);
  node = if cfg.generation == "10h" then "h1x-*" else "hailo[0-9]*";
in
{
  _class = "nixos";

  options.hatrack.hailo = {
    generation = mkOption {
      type = types.nullOr (
        types.enum [
          "8"
          "10h"
        ]
      );
      default = null;
      description = "`8` for Hailo-8, 8L and 8R (AI Kit, AI HAT+), `10h` for Hailo-10H (AI HAT+ 2).";
    };

    driver = mkOption {
      type = types.nullOr (types.functionTo types.package);
      default = null;
      example = lib.literalExpression "kernelPackages: kernelPackages.callPackage ./hailo-pci.nix { }";
      description = ''
        Package of the kernel module, given the packages of the kernel that runs: hailo_pci 4.x for generation 8,
        hailo1x_pci 5.x for 10h.
      '';
    };

    firmware = mkOption {
      type = types.nullOr types.package;
      default = null;
      description = "Package with the firmware below `lib/firmware/hailo`, of the same version as the driver.";
    };
  };

  config = lib.mkMerge [
    {
      assertions = [
        {
          assertion = cfg.driver != null || cfg.firmware != null -> cfg.generation != null;
          message = "hatrack.hailo.generation of ${config.networking.hostName} is not set, and without it neither hatrack.hailo.driver nor .firmware is used: set it to 8 or 10h.";
        }
      ];
    }
    (lib.mkIf (cfg.generation != null) {
      assertions = [
        {
          assertion = cfg.driver != null;
          message = "hatrack.hailo.driver is not set: nixpkgs has no Hailo driver, so name a package that builds ${module} for the kernel of ${config.networking.hostName}.";
        }
        {
          assertion = cfg.firmware != null;
          message = "hatrack.hailo.firmware is not set: nixpkgs has no Hailo firmware, so name a package with that of the driver's version.";
        }
        {
          assertion = cfg.driver == null || major == series;
          message = "hatrack.hailo.driver of ${config.networking.hostName} is of version ${major}.x, and hatrack.hailo.generation ${cfg.generation} needs ${module} ${series}.x: choose the package of that series.";
        }
      ];

      boot.extraModulePackages = lib.mkIf (cfg.driver != null) [
        driver
      ];
      boot.kernelModules = [ module ];
      hardware.firmware = lib.mkIf (cfg.firmware != null) [ cfg.firmware ];

      users.groups.accelerator = { };
      services.udev.extraRules = ''
        KERNEL=="${node}", GROUP="accelerator", MODE="0660"
      '';
    })
  ];
}
