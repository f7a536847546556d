# A machine of the control plane is a Ready ClusterNode after its first boot, and the same one after a reboot. k3s applies what
# that takes, and the operator lets it in and says Ready.
{ self }:
{
  name = "hatrack-registers";

  nodes.founder = {
    imports = [ (import ./node.nix { inherit self; }) ];
    hatrack = {
      host.class = "control-plane";
      host.address = "192.168.1.1";
    };
  };

  testScript = ''
    def wait_for_node():
        founder.wait_until_succeeds("k3s kubectl wait --for=condition=Ready clusternode/founder --timeout=60s", timeout=600)

    founder.wait_for_unit("k3s.service")
    with subtest("k3s applies kinds, policies and rights"):
        founder.wait_until_succeeds("k3s kubectl get clusterrole hatrack:operator", timeout=600)
        founder.wait_until_succeeds("k3s kubectl get hatpolicy default", timeout=120)

    with subtest("the operator has a certificate of its own"):
        founder.wait_until_succeeds("systemctl is-active hatrack-operator.service", timeout=300)
        founder.succeed("test $(stat --format '%U %a' /var/lib/hatrack-operator/kubeconfig | tr -d ' ') = root600")

    with subtest("it enrolls by its kubelet, and the operator lets it in"):
        wait_for_node()
        founder.succeed("test $(stat --format '%U %a' /var/lib/hatrack/kubeconfig | tr -d ' ') = hatrack600")

    with subtest("the agent is unprivileged"):
        founder.succeed("test $(ps -o user= -C hatrack-agent | sort -u) = hatrack")
        founder.succeed("grep '^CapEff:.*0000000000000000' /proc/$(pgrep --oldest hatrack-agent)/status")

    with subtest("the agent starts targets of hats and nothing else"):
        founder.succeed("su --shell /bin/sh --command 'systemctl start hat@repair.target' hatrack")
        founder.fail("su --shell /bin/sh --command 'systemctl stop sshd.service' hatrack")

    with subtest("a reboot keeps the object"):
        uid = founder.succeed("k3s kubectl get clusternode founder --output jsonpath={.metadata.uid}")
        founder.shutdown()
        founder.start()
        founder.wait_for_unit("hatrack-agent.service")
        wait_for_node()
        assert uid == founder.succeed("k3s kubectl get clusternode founder --output jsonpath={.metadata.uid}")
  '';
}
