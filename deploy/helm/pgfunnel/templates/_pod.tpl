{{- /* The parts that the pods of both modes have. */ -}}
{{- define "pgfunnel.podMetadata" -}}
labels:
  {{- /* The chart's own win: the selector relies on them. */}}
  {{- toYaml (merge (include "pgfunnel.labels" . | fromYaml) .Values.podLabels) | nindent 2 }}
{{- with .Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "pgfunnel.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "pgfunnel.volumes" . }}
volumes:
  {{- . | trim | nindent 2 }}
{{- end }}
{{- end -}}
