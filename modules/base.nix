# What every machine has, whatever it is for: a way in, a clock, and limits on what it may fill.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.hatrack.base;
in
{
  _class = "nixos";

  options.hatrack.base = {
    enable =
      lib.mkEnableOption "ssh with keys only, the firewall, time, housekeeping and the watchdog"
      // {
        default = true;
      };

    sshKeys = lib.mkOption {
      type = lib.types.listOf (
        lib.types.strMatching "(ssh-|ecdsa-|sk-)[^ ]+ [^ ]+.*"
        // {
          description = "public ssh key itself, as in `ssh-ed25519 AAAA… ada@desk`, and not the name of its file";
        }
      );
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... ada@desk" ];
      description = "Public ssh keys of those who administer the machine. They log in as root, by key only.";
    };

    journalSize = lib.mkOption {
      type = lib.types.strMatching "[0-9]+[KMGT]";
      default = "1G";
      description = "How much of the disk the journal may take.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.sshKeys != [ ];
        message = "hatrack.base.sshKeys is empty: nobody could log in to ${config.networking.hostName}. Add a public key.";
      }
      {
        assertion = options.system.stateVersion.highestPrio < (lib.mkOptionDefault null).priority;
        message = "system.stateVersion is not set on ${config.networking.hostName}: set it to the release that the host was first installed with, and leave it.";
      }
    ];

    users.users.root.openssh.authorizedKeys.keys = cfg.sshKeys;
    services.openssh = {
      enable = true;
      openFirewall = true;
      settings = {
        PasswordAuthentication = false;
        KbdInteractiveAuthentication = false;
        PermitRootLogin = "prohibit-password";
      };
    };

    networking.firewall.enable = true;
    services.timesyncd.enable = lib.mkDefault true;
    time.timeZone = lib.mkDefault "UTC";

    nix = {
      settings = {
        experimental-features = [
          "nix-command"
          "flakes"
        ];
        auto-optimise-store = lib.mkDefault true;
        # Builds stop before the disk is full, so that the machine can still be repaired.
        min-free = lib.mkDefault (1024 * 1024 * 1024);
        max-free = lib.mkDefault (5 * 1024 * 1024 * 1024);
      };
      gc = {
        automatic = lib.mkDefault true;
        dates = lib.mkDefault "weekly";
        options = lib.mkDefault "--delete-older-than 30d";
      };
    };

    # A file of its own: the option for it was renamed between releases.
    environment.etc."systemd/journald.conf.d/hatrack.conf".text = ''
      [Journal]
      SystemMaxUse=${cfg.journalSize}
      SystemKeepFree=1G
    '';

    # A machine in a rack has nobody to press its reset button.
    systemd.settings.Manager = {
      RuntimeWatchdogSec = lib.mkDefault "30s";
      RebootWatchdogSec = lib.mkDefault "10min";
    };
    boot.kernel.sysctl."kernel.panic" = lib.mkDefault 10;
  };
}
