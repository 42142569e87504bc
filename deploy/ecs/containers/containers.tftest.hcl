variables {
  image               = "registry.example/pgfunnel:0.1.0"
  upstream_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:upstream-AbCdEf"
  settings            = { default_pool_size = "12", drain_timeout = "20" }
  log_group           = "/ecs/pgfunnel"
  region              = "eu-west-1"
}

run "a_service_of_its_own" {
  command = plan

  assert {
    condition     = length(jsondecode(output.definitions)) == 1
    error_message = "pgfunnel alone"
  }
  assert {
    condition     = contains(jsondecode(output.definitions)[0].portMappings[*].containerPort, 6432)
    error_message = "clients come from other tasks"
  }
  assert {
    condition     = jsondecode(output.definitions)[0].stopTimeout == 30
    error_message = "the drain and ten seconds"
  }
}

run "a_sidecar" {
  command = plan

  variables {
    app = { image = "registry.example/app:1.0.0", port = 8080 }
  }

  assert {
    condition     = jsondecode(output.definitions)[1].dependsOn[0].condition == "HEALTHY"
    error_message = "the application starts after pgfunnel, and stops before it"
  }
  assert {
    condition = contains(
      jsondecode(output.definitions)[0].environment,
      { name = "PGFUNNEL_LISTEN_ADDR", value = "127.0.0.1" },
    )
    error_message = "a sidecar listens on loopback alone"
  }
}
