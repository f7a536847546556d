# The operator: decides who wears which hat on which machine. Each machine of the control plane runs one; one of them leads.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.operator;
  toml = pkgs.formats.toml { };
  checked = import ../lib/checked-config.nix { inherit lib pkgs; };

  secretPath = import ../lib/secret-path.nix { inherit lib; };
  secretFiles = [
    {
      name = "api.kubeconfig";
      value = cfg.settings.api.kubeconfig or null;
    }
    {
      name = "nats.credentials";
      value = cfg.settings.nats.credentials or null;
    }
  ];

  access = pkgs.writeShellApplication {
    name = "hatrack-operator-access";
    runtimeInputs = [
      pkgs.coreutils
      pkgs.kubectl
      pkgs.openssl
      pkgs.systemd
    ];
    text = builtins.readFile ../packages/operator-access.sh;
  };
  accessFolder = "hatrack-operator";
in
{
  _class = "nixos";

  options.hatrack.operator = {
    enable = lib.mkEnableOption "the operator, which puts hats on machines" // {
      default = config.hatrack.host.class == "control-plane";
      defaultText = lib.literalExpression ''config.hatrack.host.class == "control-plane"'';
    };

    package = lib.mkPackageOption pkgs "hatrack-operator" { };

    settings = mkOption {
      type = types.submodule {
        freeformType = toml.type;
        options.listen = mkOption {
          type = types.strMatching ".+:[0-9]+";
          default = "127.0.0.1:9471";
          description = "Address and port of `/metrics`, `/healthz` and `/readyz`.";
        };
      };
      default = { };
      example = {
        nats.url = "nats://10.0.0.1:4222";
      };
      description = "What goes into `/etc/hatrack/operator.toml`.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = config.hatrack.k3s.enable && config.hatrack.k3s.role == "server";
        message = "hatrack.operator.enable is set on ${config.hatrack.host.name}, which runs no control plane: its certificate is made with the credentials of k3s' administrator. Unset it, or make the class control-plane.";
      }
    ]
    ++ map (setting: {
      assertion = setting.value == null || secretPath.check setting.value;
      message = "hatrack.operator.settings.${setting.name} of ${config.hatrack.host.name} is no path outside of the Nix store, where everybody could read it: name a file on the machine, as a string.";
    }) secretFiles;

    hatrack.operator.settings.api.kubeconfig =
      lib.mkDefault "/run/credentials/hatrack-operator.service/kubeconfig";
    environment.etc."hatrack/operator.toml".source = checked cfg.package (
      toml.generate "operator.toml" cfg.settings
    );

    systemd.services.hatrack-operator-access = {
      description = "Certificate of the hatrack operator";
      documentation = [ "https://github.com/hatrack/hatrack" ];
      after = [ "k3s.service" ];
      environment = {
        KUBECONFIG = "/etc/rancher/k3s/k3s.yaml";
        # It was started with a copy of its access.
        RESTART = "hatrack-operator.service";
      };
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = import ../lib/hardening.nix // {
        Type = "oneshot";
        ExecStart = lib.getExe access;
        # The API server is not there yet at the first boot.
        Restart = "on-failure";
        RestartSec = 10;
        TimeoutStartSec = 120;
        StateDirectory = accessFolder;
        StateDirectoryMode = "0700";
        PrivateDevices = true;
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_UNIX"
        ];
        UMask = "0077";
      };
    };
    systemd.timers.hatrack-operator-access = {
      description = "Renewal of the hatrack operator's certificate";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = "daily";
        Persistent = true;
        RandomizedDelaySec = "1h";
      };
    };
    systemd.services.hatrack-operator = {
      description = "hatrack operator";
      documentation = [ "https://github.com/hatrack/hatrack" ];
      wantedBy = [ "multi-user.target" ];
      wants = [
        "hatrack-operator-access.service"
        "network-online.target"
      ];
      after = [
        "hatrack-operator-access.service"
        "network-online.target"
      ];
      restartTriggers = [ config.environment.etc."hatrack/operator.toml".source ];
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = import ../lib/hardening.nix // {
        ExecStart = "${lib.getExe cfg.package} run --config /etc/hatrack/operator.toml";
        Type = "notify";
        WatchdogSec = 60;
        Restart = "always";
        RestartSec = 5;

        # It keeps nothing: what it knows, it reads from the API server.
        DynamicUser = true;
        LoadCredential = "kubeconfig:/var/lib/${accessFolder}/kubeconfig";
        PrivateDevices = true;
        PrivateUsers = true;
        ProcSubset = "pid";
        # The API server and NATS are on the network; the service manager hears by a Unix socket that it is up.
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_UNIX"
        ];
        UMask = "0077";
      };
    };
  };
}
