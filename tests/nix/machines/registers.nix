# A machine of the control plane is a ClusterNode after its first boot, and the same one after a reboot.
{ self }:
{
  name = "hatrack-registers";

  nodes.founder = {
    imports = [ (import ./node.nix { inherit self; }) ];
    hatrack = {
      host.class = "control-plane";
      host.address = "192.168.1.1";
      agent.settings.api.kubeconfig = "/var/lib/hatrack/kubeconfig";
    };
  };

  testScript = ''
    def wait_for_node():
        founder.wait_until_succeeds("k3s kubectl get clusternode founder", timeout=600)
        founder.wait_until_succeeds("k3s kubectl --namespace society-system get lease founder", timeout=120)

    founder.wait_for_unit("k3s.service")
    founder.wait_until_succeeds("k3s kubectl get --raw /readyz", timeout=600)
    founder.succeed("k3s kubectl apply --server-side --kustomize ${../../../k8s}")
    founder.succeed("install --mode 0400 --owner hatrack /etc/rancher/k3s/k3s.yaml /var/lib/hatrack/kubeconfig")
    founder.succeed("systemctl restart hatrack-agent.service")
    wait_for_node()

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
