# The class `phone-orchestrator`: phones on USB, and nothing that competes with them.
{
  config,
  lib,
  ...
}:
{
  _class = "nixos";

  config = lib.mkIf (config.hatrack.host.class == "phone-orchestrator") {
    assertions = [
      {
        assertion = !config.services.k3s.enable;
        message = "${config.hatrack.host.name} is a phone-orchestrator and a Kubernetes worker (hatrack.k3s.enable or services.k3s.enable): pods would share its USB controllers and its restarts with the phones. Use another host for Kubernetes.";
      }
    ];

    hatrack.adb.enable = lib.mkDefault true;
    hatrack.usb.enable = lib.mkDefault true;
  };
}
