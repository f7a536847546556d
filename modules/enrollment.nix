# How the agent gets its certificate: with a token that was made for this machine, or, on a machine of Kubernetes, once with the
# identity of its kubelet.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  inherit (config.hatrack) agent host k3s;
  cfg = agent.enrollment;

  secretPath = import ../lib/secret-path.nix { inherit lib; };
  hardening = import ../lib/hardening.nix;

  byToken = cfg.by == "token";
  byKubelet = cfg.by == "kubelet";

  # The names of secrets are in the clear. A token that is not there yet, or not any more, is no build error.
  secrets = config.hatrack.secrets.file;
  secret = "enrollment-${host.name}";
  isSecret =
    secrets != null
    && builtins.pathExists secrets
    && lib.any (lib.hasPrefix "${secret}:") (lib.splitString "\n" (builtins.readFile secrets));

  servers = lib.filter (peer: peer.class or null == "control-plane") (
    lib.attrValues config.hatrack.cluster.hosts
  );
  hangsOnFounder =
    byKubelet && k3s.role == "agent" && k3s.founderAddress == null && cfg.server == k3s.url;

  credential = "enrollment";
  otherAccess = lib.intersectLists [ "kubeconfig" "server" ] (
    lib.attrNames (agent.settings.api or { })
  );
in
{
  _class = "nixos";

  options.hatrack.agent.enrollment = {
    by = mkOption {
      type = types.nullOr (
        types.enum [
          "kubelet"
          "token"
        ]
      );
      default = if k3s.enable then "kubelet" else "token";
      defaultText = lib.literalMD "`kubelet` where {option}`hatrack.k3s.enable` is set, else `token`";
      description = ''
        What the machine asks for its first certificate with. `null`: it has none of its own, and
        {option}`hatrack.agent.settings` names another access in `api`.
      '';
    };

    tokenFile = mkOption {
      type = types.nullOr secretPath;
      default =
        if byToken && isSecret then
          config.sops.secrets.${secret}.path
        else
          "/var/lib/hatrack-enrollment/token.toml";
      defaultText = lib.literalMD ''
        the secret `enrollment-NAME` of {option}`hatrack.secrets.file`, if it is there, else
        `/var/lib/hatrack-enrollment/token.toml`, where installing puts it
      '';
      description = ''
        File on the machine that `hatrack token create` made for it. It is needed until the machine has its certificate, and again
        when that has ended while the machine was off; without it, a machine that has its certificate goes on.
      '';
    };

    lifetime = mkOption {
      type = types.strMatching "([0-9]+(h|m|s) ?)+";
      default = "168h";
      description = "How long a certificate should last, at least `10m`. It is renewed after two thirds of that.";
    };

    server = mkOption {
      type = types.nullOr (types.strMatching "https://.+");
      default = if byKubelet then k3s.url else null;
      defaultText = lib.literalMD "where the kubelet's identity is used: a server's own, else the founder's";
      example = "https://10.0.0.1:6443";
      description = ''
        Address of the API server. `null`: the one in the token file. That of the kubelet is a part of k3s on the machine itself, on
        whose health the agent must not depend.
      '';
    };

    kubeconfig = mkOption {
      type = secretPath;
      default = "/var/lib/rancher/k3s/agent/kubelet.kubeconfig";
      description = "The kubelet's kubeconfig. Root reads it, for the first request alone.";
    };
  };

  config = lib.mkIf agent.enable {
    assertions = [
      {
        assertion = byToken -> cfg.tokenFile != null;
        message = "hatrack.agent.enrollment.tokenFile of ${host.name} is not set: the agent asks for its certificate with a token. Name a file on the machine, or set hatrack.agent.enrollment.by.";
      }
      {
        assertion = byKubelet -> k3s.enable;
        message = "hatrack.agent.enrollment.by of ${host.name} is kubelet, and no kubelet runs there (hatrack.k3s.enable): leave it at token.";
      }
      {
        assertion = cfg.by == null -> otherAccess != [ ];
        message = "hatrack.agent.enrollment.by of ${host.name} is null, and hatrack.agent.settings.api names no other access: the agent could never reach the API server. Choose token or kubelet, or name a kubeconfig there.";
      }
      {
        assertion = cfg.by != null -> otherAccess == [ ];
        message = "hatrack.agent.settings.api.${
          lib.head (otherAccess ++ [ "" ])
        } of ${host.name} is set beside hatrack.agent.enrollment.by: the agent can have one access. Unset it, or set hatrack.agent.enrollment.by to null.";
      }
    ];

    warnings =
      lib.optional (hangsOnFounder && lib.length servers > 1)
        "${host.name} reports to ${cfg.server} alone, though the cluster has ${toString (lib.length servers)} control planes: while that one is down it cannot, and hats move away from it. Set hatrack.k3s.founderAddress for all hosts to a name of all of them, or an address that moves between them.";

    sops.secrets = lib.mkIf (byToken && isSecret) {
      ${secret}.restartUnits = [ "hatrack-agent.service" ];
    };

    hatrack.agent.settings.enrollment = lib.mkIf (cfg.by != null) (
      {
        inherit (cfg) lifetime;
      }
      // lib.optionalAttrs (cfg.server != null) { inherit (cfg) server; }
      // lib.optionalAttrs byToken {
        token-file = "/run/credentials/hatrack-agent.service/${credential}";
      }
    );

    # The file stays root's. One that is not there is an empty one: the agent starts without it.
    systemd.services.hatrack-agent.serviceConfig = lib.mkIf byToken {
      LoadCredential = [ "${credential}:${toString cfg.tokenFile}" ];
      SetCredential = [ "${credential}:\\n" ];
    };

    # Nothing waits for it: neither the agent nor a switch, whatever becomes of k3s.
    systemd.services.hatrack-enroll = lib.mkIf byKubelet {
      description = "First certificate of the hatrack agent";
      documentation = [ "https://github.com/hatrack/hatrack" ];
      after = [
        "k3s.service"
        "network-online.target"
      ];
      wants = [ "network-online.target" ];
      restartIfChanged = false;
      serviceConfig = hardening // {
        Type = "oneshot";
        # It asks until there is an answer, which may be a person's; after a refusal the timer asks again.
        ExecStart = "${lib.getExe agent.package} enroll --config /etc/hatrack/agent.toml --with ${cfg.kubeconfig} --owner hatrack --wait 24h";

        # It is root to read the kubelet's key, and puts the certificate into the folder of another user.
        CapabilityBoundingSet = [
          "CAP_CHOWN"
          "CAP_DAC_OVERRIDE"
        ];
        SystemCallFilter = hardening.SystemCallFilter ++ [
          "~@resources"
          "@chown"
        ];
        ReadWritePaths = "/var/lib/hatrack";
        PrivateDevices = true;
        PrivateMounts = true;
        ProcSubset = "pid";
        # k3s brings its kubelet to the API server by a port on loopback.
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
        ];
        IPAddressAllow = "localhost";
        IPAddressDeny = "any";
        UMask = "0077";
      };
    };
    # It looks for the certificate again, so that one that was deleted, or has ended while the machine was off, is replaced.
    systemd.timers.hatrack-enroll = lib.mkIf byKubelet {
      description = "Certificate of the hatrack agent, if it has none";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnBootSec = 1;
        OnUnitInactiveSec = "15min";
      };
    };
    systemd.tmpfiles.rules = lib.mkIf byKubelet [ "d /var/lib/hatrack 0750 hatrack hatrack -" ];
  };
}
