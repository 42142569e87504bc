# pgfunnel on ECS/Fargate, next to an application or as a service of its own.

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60"
    }
  }
}

locals {
  # IAM knows whole secrets, without the JSON key, stage and version that ECS takes after the name.
  secret_arns = distinct([
    for arn in concat([var.upstream_secret_arn], values(try(var.app.secrets, {}))) :
    join(":", slice(split(":", arn), 0, min(7, length(split(":", arn)))))
  ])
  # An update runs at most twice the tasks for a while (deployment_maximum_percent below).
  share = floor(var.connections / (2 * var.tasks))
}

module "containers" {
  source              = "./containers"
  image               = var.image
  upstream_secret_arn = var.upstream_secret_arn
  app                 = var.app
  log_group           = aws_cloudwatch_log_group.this.name
  region              = var.region
  settings = merge(var.settings, {
    default_pool_size  = local.share
    max_db_connections = local.share
  })
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${var.name}"
  retention_in_days = 30
}

resource "aws_iam_role" "execution" {
  name = "${var.name}-execution"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "secrets" {
  name = "read-secrets"
  role = aws_iam_role.execution.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue", "ssm:GetParameters"]
      Resource = local.secret_arns
    }]
  })
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = module.containers.definitions

  lifecycle {
    precondition {
      condition     = local.share >= 1
      error_message = "connections must be at least twice tasks: raise it, or lower tasks."
    }
  }
}

resource "aws_ecs_service" "this" {
  name                               = var.name
  cluster                            = var.cluster_arn
  task_definition                    = aws_ecs_task_definition.this.arn
  desired_count                      = var.tasks
  launch_type                        = "FARGATE"
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = var.subnet_ids
    security_groups = var.security_group_ids
  }

  dynamic "service_registries" {
    for_each = var.service_registry_arn == null ? [] : [var.service_registry_arn]
    content {
      registry_arn = service_registries.value
    }
  }
}
