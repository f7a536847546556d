# The class `pi-ai-hat`: a Raspberry Pi with an accelerator on it.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (config.hatrack) host;
in
{
  _class = "nixos";

  config = lib.mkIf (host.class == "pi-ai-hat") {
    assertions = [
      {
        assertion = !config.boot.loader.systemd-boot.enable;
        message = "boot.loader.systemd-boot.enable is set on ${host.name}, a Raspberry Pi: its firmware starts U-Boot. Unset it; boot.loader.generic-extlinux-compatible is what is written.";
      }
      {
        assertion = host.install == "sd-image";
        message = "hatrack.host.install of ${host.name} is ${host.install}: a Raspberry Pi cannot kexec into an installer. Leave it at sd-image, and write the card that `nix run .#install -- ${host.name}` names.";
      }
      {
        assertion = options ? hardware.raspberry-pi.firmware;
        message = "${host.name} has no module of its board, whose firmware starts it: add that of nixos-hardware to its modules, such as hatrack.inputs.nixos-hardware.nixosModules.raspberry-pi-5.";
      }
      {
        assertion = config.nixpkgs.hostPlatform.system == "aarch64-linux";
        message = "the system of ${host.name} is ${config.nixpkgs.hostPlatform.system}: a Raspberry Pi is aarch64-linux.";
      }
    ];

    hatrack.host.install = lib.mkDefault "sd-image";
    # The drivers of the boards come as firmware blobs.
    hardware.enableRedistributableFirmware = lib.mkDefault true;
    # The kernel of the boards has it off, and k3s does not start without.
    boot.kernelParams = lib.mkIf config.hatrack.k3s.enable [ "cgroup_enable=memory" ];
  };
}
