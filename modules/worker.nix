# The class `worker`: a Kubernetes worker without devices of its own.
{
  config,
  lib,
  ...
}:
{
  _class = "nixos";

  config = lib.mkIf (config.hatrack.host.class == "worker") {
    hatrack.k3s.enable = true;
  };
}
