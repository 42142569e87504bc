{{- /* The parts that every pgfunnel container has. */ -}}
{{- define "pgfunnel.container" -}}
name: pgfunnel
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
startupProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 2
  failureThreshold: 3
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  periodSeconds: 10
  timeoutSeconds: 3
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- if or .Values.users.secretName .Values.files.secretName }}
volumeMounts:
  {{- if .Values.users.secretName }}
  - name: pgfunnel-users
    mountPath: /etc/pgfunnel/users
    readOnly: true
  {{- end }}
  {{- if .Values.files.secretName }}
  - name: pgfunnel-files
    mountPath: /etc/pgfunnel/files
    readOnly: true
  {{- end }}
{{- end }}
{{- end -}}

{{- define "pgfunnel.env" -}}
- name: PGFUNNEL_UPSTREAM
  valueFrom:
    secretKeyRef:
      name: {{ .Values.upstream.secretName }}
      key: {{ .Values.upstream.secretKey }}
- name: PGFUNNEL_DEFAULT_POOL_SIZE
  value: {{ include "pgfunnel.share" . | quote }}
- name: PGFUNNEL_MAX_DB_CONNECTIONS
  value: {{ include "pgfunnel.share" . | quote }}
- name: PGFUNNEL_DRAIN_TIMEOUT
  value: {{ .Values.drainTimeout | quote }}
{{- if .Values.users.secretName }}
- name: PGFUNNEL_AUTH_FILE
  value: /etc/pgfunnel/users/userlist.txt
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: PGFUNNEL_{{ $name | upper }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end -}}

{{- /* An item of initContainers; include it from a chart that depends on this one, with the
       subchart's context: {{ include "pgfunnel.sidecar" .Subcharts.pgfunnel | nindent 8 }} */ -}}
{{- define "pgfunnel.sidecar" -}}
- {{ include "pgfunnel.container" . | nindent 2 | trim }}
  restartPolicy: Always
  env:
    {{- include "pgfunnel.env" . | nindent 4 }}
    - name: PGFUNNEL_LISTEN_ADDR
      value: "127.0.0.1"
  ports:
    - name: metrics
      containerPort: 9127
{{- end -}}

{{- /* The volumes that "pgfunnel.sidecar" needs when users or files have a secretName. */ -}}
{{- define "pgfunnel.volumes" -}}
{{- if .Values.users.secretName }}
- name: pgfunnel-users
  secret:
    secretName: {{ .Values.users.secretName }}
    defaultMode: 0444
    items:
      - key: {{ .Values.users.secretKey }}
        path: userlist.txt
{{- end }}
{{- if .Values.files.secretName }}
- name: pgfunnel-files
  secret:
    secretName: {{ .Values.files.secretName }}
    defaultMode: 0444
{{- end }}
{{- end -}}
