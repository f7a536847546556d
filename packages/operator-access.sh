#!/usr/bin/env bash
# Gives the operator its access to the API server: a certificate for society:operator, in a kubeconfig file. It is asked for
# with the credentials of k3s' administrator, and anew when less than a third of its life is left. Exit status 0 either way.
#
#   KUBECONFIG         of the administrator
#   STATE_DIRECTORY    where the operator's kubeconfig is kept
#   RESTART            unit that is started anew with it, if it runs
set -euo pipefail
umask 077

readonly access=$STATE_DIRECTORY/kubeconfig
readonly certificate=$STATE_DIRECTORY/operator.crt
readonly lifetime=$((90 * 24 * 60 * 60))

say() { printf '%s\n' "$*" >&2; }

# Seconds since 1970 of a date in the certificate: startdate or enddate.
moment() { date --date "$(openssl x509 -noout "-$1" -in "$certificate" | cut --delimiter = --fields 2)" +%s; }

lasts() {
  [ -s "$access" ] && [ -s "$certificate" ] || return 1
  local from until
  from=$(moment startdate) && until=$(moment enddate) || return 1
  [ $(((until - $(date +%s)) * 3)) -gt $((until - from)) ]
}

# The certificate for the request in $work, from the API server.
ask() {
  local name signed=''
  name=$(kubectl create --output name --filename - <<REQUEST
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata:
  generateName: hatrack-operator-
spec:
  signerName: kubernetes.io/kube-apiserver-client
  expirationSeconds: $lifetime
  usages: [client auth]
  request: $(base64 --wrap 0 "$work/request")
REQUEST
  )
  kubectl certificate approve "$name" >/dev/null
  until [ -n "$signed" ]; do
    sleep 0.2
    signed=$(kubectl get "$name" --output 'jsonpath={.status.certificate}')
  done
  base64 --decode <<<"$signed" >"$work/operator.crt"
  kubectl delete "$name" >/dev/null
}

# The administrator's kubeconfig says where the API server is and who signed its certificate.
write_access() {
  local server new=$work/kubeconfig
  server=$(kubectl config view --minify --output 'jsonpath={.clusters[0].cluster.server}')
  kubectl config view --minify --raw --output 'jsonpath={.clusters[0].cluster.certificate-authority-data}' |
    base64 --decode >"$work/ca.crt"
  {
    kubectl config --kubeconfig "$new" set-cluster cluster --server "$server" --certificate-authority "$work/ca.crt" --embed-certs
    kubectl config --kubeconfig "$new" set-credentials operator --client-key "$work/key" \
      --client-certificate "$work/operator.crt" --embed-certs
    kubectl config --kubeconfig "$new" set-context operator --cluster cluster --user operator
    kubectl config --kubeconfig "$new" use-context operator
  } >/dev/null
  mv "$work/operator.crt" "$certificate"
  mv "$new" "$access"
}

if lasts; then
  say "the operator's certificate lasts until $(openssl x509 -noout -enddate -in "$certificate" | cut --delimiter = --fields 2)"
  exit 0
fi
work=$(mktemp --directory "$STATE_DIRECTORY/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=society:operator \
  -keyout "$work/key" -out "$work/request" 2>/dev/null
ask
write_access
say "the operator has a new certificate"
# Without waiting: at boot the unit itself waits for this.
[ -z "${RESTART-}" ] || systemctl --no-block try-restart "$RESTART"
