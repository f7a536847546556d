# Cilium in place of flannel, of k3s's network policies and of kube-proxy.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.cilium;
  serves = config.hatrack.k3s.role == "server";
in
{
  _class = "nixos";

  options.hatrack.cilium = {
    enable = lib.mkEnableOption "Cilium as the network of the cluster, on all its machines";

    version = mkOption {
      type = types.str;
      default = "1.19.6";
      description = "Version of the Helm chart, which is that of Cilium.";
    };

    podCidr = mkOption {
      type = types.str;
      default = "10.42.0.0/16";
      description = "Addresses of pods.";
    };

    values = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      description = "Further values of the Helm chart.";
    };
  };

  config = lib.mkIf (cfg.enable && config.hatrack.k3s.enable) {
    hatrack.cilium.values = {
      kubeProxyReplacement = true;
      # The load balancer of k3s, on every machine, which knows all API servers.
      k8sServiceHost = "127.0.0.1";
      k8sServicePort = 6444;
      ipam.operator.clusterPoolIPv4PodCIDRList = [ cfg.podCidr ];
      # One control plane is a cluster as well; two operators would wait for a second machine.
      operator.replicas = lib.mkDefault 1;
    };

    hatrack.k3s.flags = lib.mkIf serves [
      "--flannel-backend=none"
      "--disable-network-policy"
      "--disable-kube-proxy"
      "--cluster-cidr=${cfg.podCidr}"
    ];

    services.k3s.manifests.cilium = lib.mkIf serves {
      content = {
        apiVersion = "helm.cattle.io/v1";
        kind = "HelmChart";
        metadata = {
          name = "cilium";
          namespace = "kube-system";
        };
        spec = {
          repo = "https://helm.cilium.io";
          chart = "cilium";
          inherit (cfg) version;
          targetNamespace = "kube-system";
          # Runs on the host's network: there is no other yet.
          bootstrap = true;
          valuesContent = builtins.toJSON cfg.values;
        };
      };
    };

    networking.firewall = {
      # Packets of a pod leave by another interface than the one their address belongs to.
      checkReversePath = "loose";
      # Health checks between machines, and Hubble.
      allowedTCPPorts = [
        4240
        4244
      ];
      trustedInterfaces = [
        "cilium_host"
        "cilium_net"
        "lxc+"
      ];
    };

    boot.kernelModules = [
      "ip_tables"
      "xt_socket"
    ];
  };
}
