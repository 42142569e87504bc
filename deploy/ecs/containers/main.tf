# The container definitions as plain values: no provider, so `terraform test` runs offline.

variable "image" {
  type = string
}

variable "upstream_secret_arn" {
  type = string
}

variable "settings" {
  type = map(string)
}

variable "app" {
  type = object({
    image       = string
    port        = number
    secrets     = optional(map(string), {})
    environment = optional(map(string), {})
    stop_after  = optional(number, 30)
  })
  default = null
}

variable "log_group" {
  type = string
}

variable "region" {
  type = string
}

locals {
  alone = var.app == null
  drain = tonumber(lookup(var.settings, "drain_timeout", "30"))

  settings = merge(
    { listen_addr = local.alone ? "*" : "127.0.0.1", log_format = "json" },
    var.settings,
  )

  logs = { for name in ["pgfunnel", "app"] : name => {
    logDriver = "awslogs"
    options = {
      "awslogs-group"         = var.log_group
      "awslogs-region"        = var.region
      "awslogs-stream-prefix" = name
    }
  } }

  pgfunnel = {
    name                   = "pgfunnel"
    image                  = var.image
    essential              = true
    user                   = "65532:65532"
    readonlyRootFilesystem = true
    environment = [
      for name, value in local.settings : { name = "PGFUNNEL_${upper(name)}", value = value }
    ]
    secrets = [{ name = "PGFUNNEL_UPSTREAM", valueFrom = var.upstream_secret_arn }]
    portMappings = [
      for port in(local.alone ? [6432, 9127] : [9127]) :
      { containerPort = port, hostPort = port, protocol = "tcp" }
    ]
    healthCheck = {
      command     = ["CMD", "pgfunnel", "healthcheck"]
      interval    = 10
      timeout     = 3
      retries     = 3
      startPeriod = 10
    }
    # Until SIGKILL, longer than the drain.
    stopTimeout      = min(120, local.drain + 10)
    ulimits          = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
    linuxParameters  = { capabilities = { add = [], drop = ["ALL"] } }
    logConfiguration = local.logs["pgfunnel"]
  }

  # dependsOn orders both ways: it starts after pgfunnel is healthy, and is stopped before it.
  app = local.alone ? [] : [{
    name             = "app"
    image            = var.app.image
    essential        = true
    dependsOn        = [{ containerName = "pgfunnel", condition = "HEALTHY" }]
    environment      = [for name, value in var.app.environment : { name = name, value = value }]
    secrets          = [for name, arn in var.app.secrets : { name = name, valueFrom = arn }]
    portMappings     = [{ containerPort = var.app.port, hostPort = var.app.port, protocol = "tcp" }]
    stopTimeout      = var.app.stop_after
    logConfiguration = local.logs["app"]
  }]
}

output "definitions" {
  description = "JSON for aws_ecs_task_definition.container_definitions."
  value       = jsonencode(concat([local.pgfunnel], local.app))
}
