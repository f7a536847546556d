# How many phones the USB controllers of a machine carry, and power of hubs that can be switched.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.usb;
  phones = config.hatrack.agent.expects.phones;
  # Powered down and up again, a phone that hangs comes back.
  hubRule =
    id:
    ''SUBSYSTEM=="usb", DRIVER=="usb", ATTR{idVendor}=="${lib.head (lib.splitString ":" id)}", ATTR{idProduct}=="${lib.last (lib.splitString ":" id)}", GROUP="adb", MODE="0660"'';
in
{
  _class = "nixos";

  options.hatrack.usb = {
    enable = lib.mkEnableOption "settings for many USB devices on one machine";

    controllers = mkOption {
      type = types.ints.positive;
      default = 1;
      description = "How many xHCI controllers the phones are spread over (`lspci -d ::0c03`).";
    };

    phonesPerController = mkOption {
      type = types.ints.positive;
      default = 30;
      description = ''
        How many phones one controller carries. Controllers of desktop boards give out after 30 to 45, as hubs take slots
        and each phone several endpoints.
      '';
    };

    switchedHubs = mkOption {
      type = types.listOf (types.strMatching "[0-9a-f]{4}:[0-9a-f]{4}");
      default = [ ];
      example = [ "2109:2817" ];
      description = "Vendor and product of hubs whose ports can be switched, as `lsusb` shows them. Group `adb` may switch them with uhubctl.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = phones == null || phones <= cfg.controllers * cfg.phonesPerController;
        message = "hatrack.agent.expects.phones of ${config.networking.hostName} is ${toString phones}, more than ${toString cfg.controllers} USB controllers carry (${toString cfg.phonesPerController} each): add controllers and say so in hatrack.usb.controllers, or spread the phones over hosts.";
      }
    ];

    # A phone that was put to sleep to save power is a phone that is gone.
    boot.kernelParams = [ "usbcore.autosuspend=-1" ];

    environment.systemPackages = [
      pkgs.uhubctl
      pkgs.usbutils
    ];
    users.groups.adb = { };
    services.udev.extraRules = lib.mkIf (cfg.switchedHubs != [ ]) (
      lib.concatLines (map hubRule cfg.switchedHubs)
    );
  };
}
