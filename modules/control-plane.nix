# The class `control-plane`: runs Kubernetes' API server, and what k3s applies to the cluster.
{
  config,
  lib,
  ...
}:
{
  _class = "nixos";

  config = lib.mkIf (config.hatrack.host.class == "control-plane") {
    hatrack.k3s = {
      enable = true;
      role = "server";
    };
    hatrack.gpu.devicePlugin.enable = lib.mkDefault (
      lib.any (peer: peer.class == "gpu-worker") (lib.attrValues config.hatrack.cluster.hosts)
    );
  };
}
