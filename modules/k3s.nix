# Kubernetes by k3s: one machine founds the cluster, the others join it.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.k3s;
  inherit (config.hatrack) cluster host;

  founds = cluster.founder == host.name;
  serves = cfg.role == "server";
  founderAddress =
    if cfg.founderAddress != null then
      cfg.founderAddress
    else
      cluster.hosts.${toString cluster.founder}.address or null;

  isLiteralToken = flag: builtins.match "--(agent-)?token(=.*)?" flag != null;
  # An agent must not know the token of the servers: whoever has it is an administrator.
  joinSecret = if serves then "k3s-token" else "k3s-agent-token";
  secretPath = import ../lib/secret-path.nix { inherit lib; };

  # A server's own programs ask the API server beside them, so that they outlive the founder.
  nearestAddress = if serves then host.address else founderAddress;
  url = address: "https://${if lib.hasInfix ":" address then "[${address}]" else address}:6443";
in
{
  _class = "nixos";

  options.hatrack.k3s = {
    enable = lib.mkEnableOption "Kubernetes on this machine";

    role = mkOption {
      type = types.enum [
        "server"
        "agent"
      ];
      default = "agent";
      description = "Whether the machine runs the control plane.";
    };

    founderAddress = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = ''
        Where the founder is reached, if not at its own {option}`hatrack.host.address`: a name or an address that stays
        when the founder is replaced.
      '';
    };

    tokenFile = mkOption {
      type = types.nullOr secretPath;
      default = null;
      description = ''
        File on the machine with the token that it joins by. Where {option}`hatrack.secrets.file` is set, it is the secret
        `k3s-token` of a server and `k3s-agent-token` of an agent.
      '';
    };

    agentTokenFile = mkOption {
      type = types.nullOr secretPath;
      default = null;
      description = ''
        File on a server with the token that agents join by, which makes nobody a server. It is the secret `k3s-agent-token` of
        {option}`hatrack.secrets.file` where that is set. Without it agents join by the token of the servers.
      '';
    };

    tlsNames = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "cluster.example.org" ];
      description = "Further names and addresses under which the API server is reached.";
    };

    labels = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Labels that the node registers itself with.";
    };

    flags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Further flags of k3s.";
    };

    url = mkOption {
      type = types.nullOr types.str;
      default = if nearestAddress == null then null else url nearestAddress;
      readOnly = true;
      internal = true;
      description = "Where programs of this machine reach the API server, whether k3s runs here or not.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cluster.founder != null;
        message = "hatrack.cluster.founder is not set: name the one host that founds the cluster.";
      }
      {
        assertion = founds -> serves;
        message = "hatrack.cluster.founder is ${host.name}, whose hatrack.k3s.role is ${cfg.role}: the founder must be a server (hatrack.host.class control-plane).";
      }
      {
        assertion = host.address != null;
        message = "hatrack.host.address of ${host.name} is not set: a machine of the Kubernetes cluster needs an address that does not change.";
      }
      {
        assertion = cluster.founder != null && !founds -> founderAddress != null;
        message = "${host.name} joins ${toString cluster.founder}, whose address is not known: set hatrack.host.address there, or hatrack.k3s.founderAddress here.";
      }
      {
        assertion = cfg.tokenFile != null;
        message = "hatrack.k3s.tokenFile of ${host.name} is not set: set hatrack.secrets.file to a sops file with the secret ${joinSecret}, or name a file on the machine.";
      }
      {
        assertion = config.services.k3s.token == "";
        message = "services.k3s.token of ${host.name} is a literal that everybody could read in the Nix store: use hatrack.k3s.tokenFile.";
      }
      {
        assertion = config.services.k3s.agentToken or "" == "";
        message = "services.k3s.agentToken of ${host.name} is a literal that everybody could read in the Nix store: use hatrack.k3s.agentTokenFile.";
      }
      {
        assertion = !lib.any isLiteralToken (lib.splitString " " config.services.k3s.extraFlags);
        message = "the flags of k3s of ${host.name} have a token that everybody could read in the Nix store (--token or --agent-token): use hatrack.k3s.tokenFile and agentTokenFile.";
      }
      {
        assertion = config.services.k3s.clusterInit -> founds;
        message = "services.k3s.clusterInit is set on ${host.name}, which would found a second cluster: only hatrack.cluster.founder (${toString cluster.founder}) founds.";
      }
    ];

    sops.secrets = lib.mkIf (config.hatrack.secrets.file != null) (
      lib.genAttrs ([ "k3s-agent-token" ] ++ lib.optional serves "k3s-token") (_: {
        restartUnits = [ "k3s.service" ];
      })
    );

    hatrack.k3s = {
      tokenFile = lib.mkIf (config.hatrack.secrets.file != null) (
        lib.mkDefault config.sops.secrets.${joinSecret}.path
      );
      agentTokenFile = lib.mkIf (serves && config.hatrack.secrets.file != null) (
        lib.mkDefault config.sops.secrets.k3s-agent-token.path
      );
      labels."society.zeta.io/class" = host.class;
    };

    services.k3s = {
      enable = true;
      inherit (cfg) role tokenFile;
      clusterInit = founds;
      serverAddr = lib.mkIf (!founds && founderAddress != null) (url founderAddress);
      # One string, since older releases of the module take no list.
      extraFlags = toString (
        [
          "--node-name=${host.name}"
          "--node-ip=${toString host.address}"
        ]
        ++ lib.mapAttrsToList (name: value: "--node-label=${name}=${value}") cfg.labels
        ++ lib.optionals serves (
          [
            "--secrets-encryption"
            "--write-kubeconfig-mode=0600"
            "--disable=traefik"
            "--disable=servicelb"
          ]
          ++ lib.optional (cfg.agentTokenFile != null) "--agent-token-file=${cfg.agentTokenFile}"
          ++ map (name: "--tls-san=${name}") (
            lib.unique (
              lib.filter (name: name != null) [
                host.name
                host.address
                cfg.founderAddress
              ]
              ++ cfg.tlsNames
            )
          )
        )
        ++ cfg.flags
      );
    };

    networking.firewall = {
      # Kubelet; and where the control plane runs, the API server and etcd between its members.
      allowedTCPPorts = [
        10250
      ]
      ++ lib.optionals serves [
        6443
        2379
        2380
      ];
      # Traffic of pods comes by tunnels: VXLAN of flannel and of Cilium.
      allowedUDPPorts = [ 8472 ];
      trustedInterfaces = lib.mkIf (!config.hatrack.cilium.enable) [
        "cni0"
        "flannel.1"
      ];
    };

    # Each pod may watch files; the default of 128 instances is used up by a few dozen.
    boot.kernel.sysctl = {
      "fs.inotify.max_user_instances" = lib.mkDefault 8192;
      "fs.inotify.max_user_watches" = lib.mkDefault 1048576;
    };
  };
}
