# The hardware report of a machine is of that machine, as far as it can be told from the two.
{ config, lib, ... }:
let
  report = config.hardware.facter.reportPath;
  reported = (lib.importJSON report).system or null;
  inherit (config.nixpkgs.hostPlatform) system;
in
{
  _class = "nixos";

  config.assertions = lib.optional (report != null) {
    assertion = reported == null || reported == system;
    message = "hardware.facter.reportPath of ${config.networking.hostName} is the report of a machine that is ${toString reported}, and its system is ${system}: make the report anew on this machine (`nix run .#install -- ${config.networking.hostName} root@ADDRESS --report`), or correct system in flake.nix.";
  };
}
