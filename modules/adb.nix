# One adb server for all phones, with a key that the phones were told to trust once.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.adb;

  secretPath = import ../lib/secret-path.nix { inherit lib; };
in
{
  _class = "nixos";

  options.hatrack.adb = {
    enable = lib.mkEnableOption "the adb server, on loopback, as a service";

    package = lib.mkPackageOption pkgs "android-tools" { };

    keyFile = mkOption {
      type = types.nullOr secretPath;
      default = null;
      description = ''
        File on the machine with the private key that the phones trust. It is the secret `adb-key` of
        {option}`hatrack.secrets.file` where that is set.
      '';
    };

    port = mkOption {
      type = types.port;
      default = 5037;
      description = "Port of the server on loopback.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.keyFile != null;
        message = "hatrack.adb.keyFile of ${config.networking.hostName} is not set: with a new key each phone would ask a person again. Set hatrack.secrets.file to a sops file with the secret adb-key, or name a file on the machine.";
      }
    ];

    sops.secrets = lib.mkIf (config.hatrack.secrets.file != null) {
      adb-key.restartUnits = [ "adb.service" ];
    };

    hatrack.adb.keyFile = lib.mkIf (config.hatrack.secrets.file != null) (
      lib.mkDefault config.sops.secrets.adb-key.path
    );
    hatrack.agent.settings.adb.server = "127.0.0.1:${toString cfg.port}";

    users.users.adb = {
      isSystemUser = true;
      group = "adb";
      description = "adb server";
    };
    users.groups.adb = { };
    environment.systemPackages = [ cfg.package ];

    systemd.services.adb = {
      description = "adb server";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      serviceConfig = import ../lib/hardening.nix // {
        # The key is adb's own and not one of ADB_VENDOR_KEYS: with those it only signs, and what a phone is asked to trust
        # is the public half of its own. (AOSP, packages/modules/adb/client/auth.cpp)
        ExecStartPre = "${lib.getExe' pkgs.coreutils "ln"} --symbolic --force --no-dereference %d/adbkey /var/lib/adb/.android/adbkey";
        # It knows the loopback by this name alone, and ends with any address. (AOSP, packages/modules/adb/socket_spec.cpp)
        ExecStart = "${lib.getExe' cfg.package "adb"} -L tcp:localhost:${toString cfg.port} server nodaemon";
        Restart = "always";
        RestartSec = 2;
        User = "adb";
        Group = "adb";
        StateDirectory = "adb adb/.android";
        StateDirectoryMode = "0700";
        LoadCredential = "adbkey:${toString cfg.keyFile}";
        Environment = "HOME=/var/lib/adb";

        # Phones are its work: it opens their USB devices itself.
        DeviceAllow = "char-usb_device rw";
        # libusb hears of phones that come and go by netlink; phones in the network speak TCP.
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
          "AF_UNIX"
        ];
      };
    };

    # systemd's own rules give phones to whoever sits at the machine; nobody does. The interface tells a phone, not its maker:
    # ff/42/01 is adb, ff/42/03 fastboot (AOSP, packages/modules/adb/adb.h).
    services.udev.extraRules = ''
      SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ENV{ID_USB_INTERFACES}=="*:ff4201:*", GROUP="adb", MODE="0660"
      SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ENV{ID_USB_INTERFACES}=="*:ff4203:*", GROUP="adb", MODE="0660"
    '';
  };
}
