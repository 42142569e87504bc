variable "name" {
  description = "Name of the service, its task, roles and log group."
  type        = string
  default     = "pgfunnel"
}

variable "region" {
  description = "AWS region of the log group."
  type        = string
}

variable "cluster_arn" {
  description = "The ECS cluster to run in."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets that reach the database."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups of the tasks; the database must let one of them in."
  type        = list(string)
}

variable "image" {
  description = "pgfunnel's image, in a registry that the tasks can pull from."
  type        = string
}

variable "upstream_secret_arn" {
  description = "Secrets Manager secret (or SSM parameter) whose value is the DSN of Postgres."
  type        = string
}

variable "connections" {
  description = "The most connections Postgres is to see from one database's pools of this service."
  type        = number
  default     = 60

  validation {
    condition     = var.connections >= 2
    error_message = "connections must be 2 or more: tasks of an update share them."
  }
}

variable "tasks" {
  description = "How many tasks run."
  type        = number
  default     = 2

  validation {
    condition     = var.tasks >= 1
    error_message = "tasks must be 1 or more."
  }
}

variable "settings" {
  description = "Further settings of pgfunnel by name, as in docs/settings.md."
  type        = map(string)
  default     = { max_client_conn = "5000", query_wait_timeout = "15" }
}

variable "app" {
  description = "The application whose sidecar pgfunnel is; null for pgfunnel as a service."
  type = object({
    image       = string
    port        = number
    secrets     = optional(map(string), {})
    environment = optional(map(string), {})
    stop_after  = optional(number, 30)
  })
  default = null
}

variable "cpu" {
  description = "CPU units of a task; pgfunnel alone has no use for more than 1024."
  type        = number
  default     = 512
}

variable "memory" {
  description = "Memory of a task in MiB."
  type        = number
  default     = 1024
}

variable "service_registry_arn" {
  description = "Cloud Map service that gives the tasks a name in the VPC; null for none."
  type        = string
  default     = null
}
