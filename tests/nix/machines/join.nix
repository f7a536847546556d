# A worker joins the machine that founded the cluster, by the token of agents; the one of servers it does not have.
{ self }:
let
  agentToken = {
    environment.etc.agent-token.text = "of-agents-only-for-tests";
  };
in
{
  name = "hatrack-join";

  nodes = {
    founder = {
      imports = [
        (import ./node.nix { inherit self; })
        agentToken
      ];
      hatrack.k3s.agentTokenFile = "/etc/agent-token";
      hatrack.host.class = "control-plane";
      hatrack.host.address = "192.168.1.1";
    };
    worker =
      { lib, ... }:
      {
        imports = [
          (import ./node.nix { inherit self; })
          agentToken
        ];
        hatrack.k3s.tokenFile = lib.mkForce "/etc/agent-token";
        environment.etc.join-token.enable = false;
        hatrack.host.class = "worker";
        hatrack.host.address = "192.168.1.2";
      };
  };

  testScript = ''
    start_all()
    founder.wait_until_succeeds("k3s kubectl get --raw /readyz", timeout=600)
    founder.wait_until_succeeds("k3s kubectl get node worker", timeout=600)
    founder.succeed("k3s kubectl get node worker --show-labels | grep society.zeta.io/class=worker")
    worker.fail("test -e /var/lib/rancher/k3s/server/db")
  '';
}
