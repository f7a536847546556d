# A phone on USB is in the object of its machine, and Unusable for as long as it does not answer the adb server; it goes with its
# cable. The phone is a gadget of the kernel on the virtual controller dummy_hcd.
{ self }:
{
  name = "hatrack-phones";

  nodes = {
    founder =
      { pkgs, ... }:
      {
        imports = [ (import ./node.nix { inherit self; }) ];
        hatrack.host.class = "control-plane";
        hatrack.host.address = "192.168.1.1";
        environment.systemPackages = [ pkgs.hatrack ];
      };
    phones =
      { lib, pkgs, ... }:
      {
        imports = [ (import ./node.nix { inherit self; }) ];
        hatrack = {
          host.class = "phone-orchestrator";
          host.address = "192.168.1.2";
          adb.keyFile = "/var/lib/adb-key";
        };
        environment.systemPackages = [ pkgs.python3 ];
        # NixOS builds as a module whatever can be one, the virtual controller and gadgets among it.
        boot.kernelModules = [
          "dummy_hcd"
          "libcomposite"
          "usb_f_fs"
        ];
        systemd.services.phone = {
          description = "A phone that answers nobody";
          serviceConfig.ExecStart = "${lib.getExe pkgs.python3} ${./phone.py}";
        };
      };
  };

  testScript = ''
    def devices():
        return founder.succeed("k3s kubectl get clusternode phones --output jsonpath='{.status.devices[*].name}'")

    start_all()
    founder.wait_until_succeeds("k3s kubectl get clusterrole hatrack:operator", timeout=600)

    create = "hatrack token create phones --class phone-orchestrator --server https://192.168.1.1:6443"
    token = founder.succeed("KUBECONFIG=/etc/rancher/k3s/k3s.yaml " + create + " | base64 --wrap 0")
    phones.succeed("mkdir /var/lib/hatrack-enrollment")
    phones.succeed("base64 --decode <<<" + token + " >/var/lib/hatrack-enrollment/token.toml")
    phones.succeed("${self.inputs.nixpkgs.legacyPackages.x86_64-linux.android-tools}/bin/adb keygen /var/lib/adb-key")
    phones.succeed("systemctl restart adb.service hatrack-agent.service")
    # It fails where the kernel does not have them.
    phones.wait_for_unit("systemd-modules-load.service")
    phones.wait_for_unit("adb.service")
    phones.wait_for_open_port(5037)
    founder.wait_until_succeeds("k3s kubectl get clusternode phones", timeout=600)
    assert devices() == "", "a phone before any is there"

    with subtest("a phone appears, with what is to be done"):
        phones.succeed("systemctl start phone.service")
        founder.wait_until_succeeds("k3s kubectl get clusternode phones --output yaml | grep phone-r58m123abc", timeout=120)
        founder.wait_until_succeeds(
            "k3s kubectl get clusternode phones --output jsonpath='{.status.devices[0].health.state}' | grep Unusable",
            timeout=120,
        )

    with subtest("and goes with its cable"):
        phones.succeed("systemctl stop phone.service")
        founder.wait_until_fails("k3s kubectl get clusternode phones --output yaml | grep phone-r58m123abc", timeout=120)
  '';
}
