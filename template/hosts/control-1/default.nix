{ lib, ... }:
{
  hatrack.host.address = "10.0.0.1";
  # `nix run .#install -- control-1 root@ADDRESS --report` makes it: which drivers the machine starts with.
  hardware.facter.reportPath = lib.mkIf (builtins.pathExists ./facter.json) ./facter.json;
  system.stateVersion = "26.05";
}
