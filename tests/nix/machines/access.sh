#!/usr/bin/env bash
# On the founder: the access of one machine, as a kubeconfig on standard output. It is what enrollment brings: a certificate of
# the machine's own, and the rights that are granted with it.
#
#   access.sh NAME NODE-YAML
set -euo pipefail
cd "$(mktemp --directory)"
readonly name=$1 rights=$2

openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/O=society:nodes/CN=society:node:$name" \
  -keyout key -out request 2>/dev/null
request=$(k3s kubectl create --output name --filename - <<REQUEST
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata:
  generateName: test-
spec:
  signerName: kubernetes.io/kube-apiserver-client
  usages: [client auth]
  request: $(base64 --wrap 0 request)
REQUEST
)
k3s kubectl certificate approve "$request" >&2
until k3s kubectl get "$request" --output 'jsonpath={.status.certificate}' | base64 --decode >certificate && [ -s certificate ]; do
  sleep 0.2
done
sed "s/NAME/$name/" "$rights" | k3s kubectl apply --filename - >&2

config() { k3s kubectl config --kubeconfig access "$@" >&2; }
config set-cluster cluster --server https://192.168.1.1:6443 --embed-certs \
  --certificate-authority /var/lib/rancher/k3s/server/tls/server-ca.crt
config set-credentials machine --client-key key --client-certificate certificate --embed-certs
config set-context machine --cluster cluster --user machine
config use-context machine
cat access
