{{- define "pgfunnel.name" -}}
{{- if contains "pgfunnel" .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-pgfunnel" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pgfunnel.selector" -}}
app.kubernetes.io/name: pgfunnel
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pgfunnel.labels" -}}
{{ include "pgfunnel.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* Connections of one pod: the release's bound among all pods of a rolling update. */ -}}
{{- define "pgfunnel.share" -}}
{{- if gt (int .Values.replicas.min) (int .Values.replicas.max) -}}
{{- fail (printf "replicas.min is %v, replicas.max is %v: min must not be more" .Values.replicas.min .Values.replicas.max) -}}
{{- end -}}
{{- $pods := add .Values.replicas.max 1 -}}
{{- $share := div .Values.connections $pods -}}
{{- if lt $share 1 -}}
{{- fail (printf "connections is %v, and up to %v pods share them: raise connections or lower replicas.max" .Values.connections $pods) -}}
{{- end -}}
{{- $share -}}
{{- end -}}
