# A plan of the whole module with AWS played by Terraform itself: `terraform test`, no account needed.

mock_provider "aws" {}

variables {
  region              = "eu-west-1"
  cluster_arn         = "arn:aws:ecs:eu-west-1:123456789012:cluster/main"
  subnet_ids          = ["subnet-1", "subnet-2"]
  security_group_ids  = ["sg-1"]
  image               = "registry.example/pgfunnel:0.1.0"
  upstream_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:upstream-AbCdEf"
}

run "connections_are_shared_out" {
  command = plan

  variables {
    connections = 60
    tasks       = 3
  }

  assert {
    condition     = output.connections_per_task == 10
    error_message = "an update runs up to twice the tasks"
  }
  assert {
    condition     = aws_ecs_service.this.deployment_maximum_percent == 200
    error_message = "which the share relies on"
  }
}

run "too_few_connections_are_refused" {
  command = plan

  variables {
    connections = 5
    tasks       = 3
  }

  expect_failures = [aws_ecs_task_definition.this]
}

run "a_service_in_cloud_map" {
  command = plan

  variables {
    service_registry_arn = "arn:aws:servicediscovery:eu-west-1:123456789012:service/srv-1"
  }

  assert {
    condition     = one(aws_ecs_service.this.service_registries).registry_arn == var.service_registry_arn
    error_message = "functions find the tasks by name"
  }
}

run "the_secrets_of_the_application_may_be_read" {
  command = apply

  variables {
    app = {
      image = "registry.example/app:1.0.0"
      port  = 8080
      secrets = {
        DATABASE_URL = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:local-AbCdEf"
        API_KEY      = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:api-AbCdEf:key::"
        API_USER     = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:api-AbCdEf:user::"
        FLAGS        = "arn:aws:ssm:eu-west-1:123456789012:parameter/flags"
      }
    }
  }

  assert {
    condition = toset(jsondecode(aws_iam_role_policy.secrets.policy).Statement[0].Resource) == toset([
      var.upstream_secret_arn, var.app.secrets.DATABASE_URL, var.app.secrets.FLAGS,
      "arn:aws:secretsmanager:eu-west-1:123456789012:secret:api-AbCdEf",
    ])
    error_message = "the tasks' execution role reads all, a JSON key's secret as a whole"
  }
}
