# Coral accelerators, on PCIe or USB.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hatrack.coral;
in
{
  _class = "nixos";

  options.hatrack.coral = {
    pcie = lib.mkEnableOption "Coral on PCIe or M.2: the gasket and apex kernel modules";
    usb = lib.mkEnableOption "Coral on USB: access for the programs that drive it";
  };

  config = lib.mkMerge [
    (lib.mkIf cfg.pcie {
      boot.extraModulePackages = [ config.boot.kernelPackages.gasket ];
      boot.kernelModules = [ "apex" ];
      services.udev.extraRules = ''
        SUBSYSTEM=="apex", GROUP="accelerator", MODE="0660"
      '';
    })

    (lib.mkIf cfg.usb {
      # It comes up with the first id and takes the second one when it is first used.
      services.udev.extraRules = ''
        SUBSYSTEM=="usb", ATTR{idVendor}=="1a6e", ATTR{idProduct}=="089a", GROUP="accelerator", MODE="0660"
        SUBSYSTEM=="usb", ATTR{idVendor}=="18d1", ATTR{idProduct}=="9302", GROUP="accelerator", MODE="0660"
      '';
    })

    (lib.mkIf (cfg.pcie || cfg.usb) { users.groups.accelerator = { }; })
  ];
}
